// The playground: a text, and drafts that would continue it.

import { Panel, make, nameOf } from "./panel.js";
import * as server from "./server.js";

const PAUSE = 250; // milliseconds without a key before drafts are asked for

const parts = Object.fromEntries([...document.querySelectorAll("[id]")].map((one) => [one.id, one]));
const { text, settings, entry } = parts;

let model = null;
let panels = new Map(); // by mode; the drafts of the first are those shown behind the text
let asked = ""; // the text that the drafts continue
let chosen = 0; // which of them is shown
let timer = 0;
let running = new AbortController();

async function start() {
  try {
    model = await server.model();
  } catch (error) {
    return fail(error);
  }
  parts.model.textContent = model.id;
  parts.modes.replaceChildren(parts.modes.firstElementChild, ...model.modes.map(option));
  parts.modes.hidden = parts.comparing.hidden = model.modes.length < 2;
  entry.hidden = true;
  say("");
  askSoon(0);
}

function option(mode) {
  const label = make("label"), radio = make("input");
  Object.assign(radio, { type: "radio", name: "mode", value: mode, checked: mode === model.mode });
  label.append(radio, ` ${nameOf(mode)}`);
  return label;
}

// ---------------------------------------------------------------------------------------- asking

/** Cancel what runs, and ask when nothing was typed for a while. */
function askSoon(pause = PAUSE) {
  stop();
  timer = setTimeout(ask, pause);
}

function stop() {
  clearTimeout(timer);
  running.abort();
}

async function ask() {
  if (!model) return start();
  if (!text.value.trim()) return forget();
  const wrong = [...settings.elements].find((one) => !one.validity.valid);
  if (wrong) return say(`${wrong.labels[0].textContent.trim()}: ${wrong.validationMessage}`);
  const { signal } = (running = new AbortController());
  const prompt = text.value;
  lay(modesInView());
  try {
    for (const [mode, panel] of panels) { // one after the other: each has the server to itself
      panel.fill(await server.drafts(body(prompt, mode), { signal }));
      if (panel === main()) offer(prompt);
    }
    say("");
  } catch (error) {
    if (error.name !== "AbortError") fail(error);
  }
}

function body(prompt, mode) {
  return {
    model: model.id,
    prompt,
    n: parts.count.valueAsNumber,
    max_tokens: parts.tokens.valueAsNumber,
    temperature: parts.temperature.valueAsNumber,
    drafts: { mode },
  };
}

/** The chosen mode, and the others beside it. */
function modesInView() {
  const mode = settings.elements.mode.value;
  return parts.compare.checked ? [...new Set([mode, ...model.modes])] : [mode];
}

function fail({ message, status, retryAfter }) {
  forget();
  entry.hidden = status !== 401;
  if (!retryAfter) return say(message);
  say(`The server is busy; it will be asked again in ${retryAfter} s.`);
  askSoon(1000 * retryAfter);
}

function say(sentence) {
  parts.error.textContent = sentence;
}

// ---------------------------------------------------------------------------------------- drafts

function main() {
  return panels.values().next().value;
}

function drafts() {
  return main()?.drafts ?? [];
}

/** Panels for these modes; those that are there stay until they are filled anew. */
function lay(modes) {
  panels = new Map(modes.map((mode) => [mode, panels.get(mode) ?? new Panel(mode, accept)]));
  panels.forEach((panel) => (panel.busy = true));
  parts.panels.replaceChildren(...[...panels.values()].map((panel) => panel.place));
  show();
}

/** Show the first draft behind the text. */
function offer(prompt) {
  [asked, chosen] = [prompt, 0];
  show();
  const found = drafts().length;
  tell(found ? `${found === 1 ? "1 draft" : `${found} drafts`}. ${spoken()}` : "No drafts.");
}

function forget() {
  panels = new Map();
  parts.panels.replaceChildren();
  show();
}

/** What was drafted still holds where the user types it. */
function follow() {
  const shown = drafts()[chosen]?.text;
  const typed = text.value.startsWith(asked) ? text.value.slice(asked.length) : "";
  asked = text.value;
  panels.forEach((panel) => panel.narrow(typed));
  chosen = Math.max(0, drafts().findIndex((one) => typed + one.text === shown));
  show();
}

function show() {
  const atEnd = text.selectionStart === text.value.length;
  parts.before.textContent = text.value;
  parts.ghost.textContent = atEnd ? (drafts()[chosen]?.text ?? "") : "";
  main()?.mark(chosen);
}

function cycle(step) {
  chosen = (chosen + step + drafts().length) % drafts().length;
  show();
  tell(spoken());
}

/** Write a draft as if it were typed, so that it can be undone; there is no newer way to do so. */
function accept(draft) {
  text.focus();
  text.setSelectionRange(text.value.length, text.value.length);
  document.execCommand("insertText", false, draft);
}

function spoken() {
  return `${chosen + 1} of ${drafts().length}: ${drafts()[chosen].text}`;
}

function tell(news) {
  parts.news.textContent = news;
}

// ---------------------------------------------------------------------------------------- events

const KEYS = {
  Tab: () => accept(parts.ghost.textContent),
  ArrowDown: () => cycle(1),
  ArrowUp: () => cycle(-1),
  Escape: () => {
    stop();
    forget();
    tell("Dismissed.");
  },
};

text.addEventListener("keydown", (event) => {
  const plain = !(event.isComposing || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey);
  const act = plain && parts.ghost.textContent && KEYS[event.key];
  if (!act) return; // without a draft, keys do what they always do
  event.preventDefault();
  act();
});

text.addEventListener("input", () => {
  follow();
  askSoon();
});
document.addEventListener("selectionchange", show);
settings.addEventListener("input", () => askSoon());
settings.addEventListener("submit", (event) => event.preventDefault());

entry.addEventListener("submit", (event) => {
  event.preventDefault();
  server.remember(parts.key.value);
  parts.key.value = "";
  text.focus();
  askSoon(0);
});

start();
