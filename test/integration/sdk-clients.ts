// Clients that are logged in, and what their errors say, for the SDK's tests.
import type { ClientOptions } from "../../src/client/client.ts";
import { ClientError } from "../../src/client/events.ts";
import { ChatError, type JsonObject } from "../../src/protocol.ts";
import { register } from "../wire.ts";
import { Recorder } from "./stand-ins.ts";

/** A client that is logged in as a new user. */
export async function newcomer(port: number, options: Partial<ClientOptions> = {}, fields: JsonObject = {}) {
  const user = await register(port);
  const client = new Recorder(port, options);
  await client.login({ id: user.id, password: user.password, ...fields });
  return Object.assign(client, { user });
}

export const errnoOf = (error: unknown): unknown => (error instanceof ChatError ? error.errno : error);
export const codeOf = (error: unknown): unknown => (error instanceof ClientError ? error.code : error);
