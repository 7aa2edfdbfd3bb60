// What the pages ask of the server, and what they say when that fails.

import { say } from "./words.js";

/** An error to show: its message is a sentence. `status` is 0 where no answer came. */
export class ServerError extends Error {
  constructor(message, { status = 0, code = null } = {}) {
    super(message);
    Object.assign(this, { status, code });
  }
}

const root = new URL("..", import.meta.url); // the application may live below a path

/** Ask for JSON; `keepalive` lets the request outlive the page. */
export async function ask(path, { method = "GET", body, keepalive = false, type = "application/json" } = {}) {
  const headers = { Accept: "application/json" };
  if (method !== "GET") headers["X-CSRF-Token"] = document.querySelector("meta[name=csrf]")?.content ?? "";
  if (body !== undefined) headers["Content-Type"] = type;
  const sent = body === undefined || type !== "application/json" ? body : JSON.stringify(body);
  let response, answer;
  try {
    response = await fetch(new URL(path, root), { method, headers, body: sent, keepalive });
    const text = await response.text();
    answer = text ? JSON.parse(text) : null;
  } catch {
    throw new ServerError(say("error.unreachable"), { status: response?.ok === false ? response.status : 0 });
  }
  if (response.ok) return answer;
  const { status } = response, error = answer?.error ?? {};
  throw new ServerError(sentence(error.message ?? say("error.status", { status })), { status, code: error.code });
}

/** Whether an answer may come if the same is asked again. */
export function passing(error) {
  return error.status === 0 || error.status === 429 || error.status >= 500;
}

function sentence(message) {
  const text = message.charAt(0).toUpperCase() + message.slice(1);
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

/** A random id (UUID, version 4); `crypto.randomUUID` is only there under https. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
