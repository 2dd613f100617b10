// @octokit/webhooks on node's own server, as its documentation shows it.
import { createServer } from "node:http";
import { Webhooks, createNodeMiddleware } from "@octokit/webhooks";

const [port, secret] = process.argv.slice(2);
const webhooks = new Webhooks({ secret });
webhooks.on("push", () => {});
createServer(createNodeMiddleware(webhooks, { path: "/webhook" })).listen(Number(port), "127.0.0.1");
