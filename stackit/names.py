"""The names a plugin needs, which are those of ``stackit`` itself; docs/plugins.md shows them at work."""

from markupsafe import Markup

from stackit.api.admin import AdminRequest, BodyStream, Refused, RequestHead, Response, Route, error
from stackit.api.app import App
from stackit.api.buckets import Buckets
from stackit.api.commands import AdminClient, Command, Printer, Shell
from stackit.api.errors import NotFoundError, NotServedError, Permanent, PluginError, StackitError, describe
from stackit.api.events import Event, Push, RefChange, RefsChanged, Repo
from stackit.api.forge import Claim, Forge
from stackit.api.github import ApiError, GitHubClient
from stackit.api.hookimpl import hookimpl, on
from stackit.api.mirrors import MirrorInfo
from stackit.api.nodes import Node, Nodes
from stackit.api.occurrences import OCCURRENCES, Occurrence, OccurrenceType
from stackit.api.pages import Done, Page, PageError, PageRequest, Panel, View
from stackit.api.public import PublicRequest, PublicRoute
from stackit.api.reactor import Reactor, Timers, sleep
from stackit.api.refs import ref_bytes, ref_text
from stackit.api.repos import AccessProblem, ManagedRepo, Repos, ReposChange, TokenSource
from stackit.api.schema import Parameter, Timestamp
from stackit.api.secret_file import SecretFile
from stackit.api.tracebacks import describe_with_place
from stackit.api.version import VERSION
from stackit.html.templates import Template, Templates
from stackit.secrets.redactor import Redactor
from stackit.text.addresses import client_network, parse_address
from stackit.text.logfmt import KeyValues, LineTemplate
from stackit.text.times import rfc3339
from stackit.text.units import Duration, Size

__version__ = VERSION

__all__ = [
    "OCCURRENCES",
    "AccessProblem",
    "AdminClient",
    "AdminRequest",
    "ApiError",
    "App",
    "BodyStream",
    "Buckets",
    "Claim",
    "Command",
    "Done",
    "Duration",
    "Event",
    "Forge",
    "GitHubClient",
    "KeyValues",
    "LineTemplate",
    "ManagedRepo",
    "Markup",
    "MirrorInfo",
    "Node",
    "Nodes",
    "NotFoundError",
    "NotServedError",
    "Occurrence",
    "OccurrenceType",
    "Page",
    "PageError",
    "PageRequest",
    "Panel",
    "Parameter",
    "Permanent",
    "PluginError",
    "Printer",
    "PublicRequest",
    "PublicRoute",
    "Push",
    "Reactor",
    "Redactor",
    "RefChange",
    "RefsChanged",
    "Refused",
    "Repo",
    "Repos",
    "ReposChange",
    "RequestHead",
    "Response",
    "Route",
    "SecretFile",
    "Shell",
    "Size",
    "StackitError",
    "Template",
    "Templates",
    "Timers",
    "Timestamp",
    "TokenSource",
    "View",
    "client_network",
    "describe",
    "describe_with_place",
    "error",
    "hookimpl",
    "on",
    "parse_address",
    "ref_bytes",
    "ref_text",
    "rfc3339",
    "sleep",
]
