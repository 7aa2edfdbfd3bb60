// What the page asks of the server, and what it says when that fails.

const KEY = "attar-api-key";

/** An error to show: its message is a sentence. */
export class ServerError extends Error {
  constructor(message, { status = 0, retryAfter = null } = {}) {
    super(message);
    Object.assign(this, { status, retryAfter });
  }
}

/** Keep the key until this tab is closed. */
export function remember(key) {
  sessionStorage.setItem(KEY, key);
}

/** The model that is served, and the modes it can write in. */
export async function model() {
  return (await request("v1/models")).data[0];
}

/** Drafts that continue a text, with the time and the passes they took. */
export async function drafts(body, { signal }) {
  // Plain drafts are scored by their log-probabilities, which other modes refuse to give.
  const scored = body.drafts.mode === "sampled" ? { logprobs: 0 } : {};
  const began = performance.now();
  const { choices, usage } = await request("v1/completions", {
    method: "POST",
    body: JSON.stringify({ ...body, ...scored }),
    signal,
  });
  return {
    ms: performance.now() - began,
    passes: usage.forward_passes,
    tokens: usage.completion_tokens,
    drafts: ranked(choices),
  };
}

/** The different texts among them, the best first. */
function ranked(choices) {
  const texts = new Map();
  for (const { text, score, logprobs } of choices) {
    if (text && !texts.has(text)) texts.set(text, score ?? mean(logprobs?.token_logprobs));
  }
  const found = Array.from(texts, ([text, score]) => ({ text, score }));
  return found.sort((a, b) => b.score - a.score);
}

function mean(values) {
  return values?.length ? values.reduce((sum, one) => sum + one, 0) / values.length : null;
}

async function request(path, options = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = { "Content-Type": "application/json" };
  if (key) headers.Authorization = `Bearer ${key}`;
  let response, answer;
  try {
    response = await fetch(path, { ...options, headers });
    answer = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("The server does not answer; check that it is still running.");
  }
  if (response.ok) return answer;
  const { status } = response;
  if (status === 401) {
    const said = key ? "This key is not valid here; enter another." : "This server needs an API key.";
    throw new ServerError(said, { status });
  }
  const retryAfter = status === 429 ? Number(response.headers.get("Retry-After")) || 1 : null;
  throw new ServerError(sentence(answer.error?.message ?? `the server answered ${status}`), { status, retryAfter });
}

function sentence(message) {
  const text = message.charAt(0).toUpperCase() + message.slice(1);
  return /[.!?]$/.test(text) ? text : `${text}.`;
}
