# pytest-twisted has no types of its own. As far as the tests use it.

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar, overload

from twisted.internet.defer import Deferred

P = ParamSpec("P")
T = TypeVar("T")

def ensureDeferred(f: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]: ...
@overload
def async_yield_fixture(function: Callable[P, AsyncIterator[T]]) -> Callable[P, T]: ...
@overload
def async_yield_fixture(*, params: list[Any] = ...) -> Callable[[Callable[P, AsyncIterator[T]]], Callable[P, T]]: ...
def blockon(d: Deferred[T]) -> T: ...
