"""gidgethub on aiohttp, as its documentation shows it; a push is routed to a handler that does nothing."""

import sys

from aiohttp import web
from gidgethub import ValidationFailure, routing, sansio

router = routing.Router()


@router.register("push")
async def push(event: sansio.Event) -> None:
    pass


async def webhook(request: web.Request) -> web.Response:
    body = await request.read()
    try:
        event = sansio.Event.from_http(request.headers, body, secret=sys.argv[2])
    except ValidationFailure:
        return web.Response(status=401)
    await router.dispatch(event)
    return web.Response(status=202)


app = web.Application(client_max_size=32 * 2**20)
app.router.add_post("/webhook", webhook)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
