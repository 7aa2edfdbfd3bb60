// The editor: one text at a time, cut by keys, by mouse or by touch.

import { Boundaries, Questions } from "./boundaries.js";
import { Clock } from "./clock.js";
import { Cuts } from "./cuts.js";
import { sha256 } from "./digest.js";
import { Autosave, Local } from "./drafts.js";
import { Guideline } from "./guideline.js";
import { bind } from "./keys.js";
import { Outbox } from "./outbox.js";
import { clusters, points, unseen } from "./points.js";
import { Proposals } from "./proposals.js";
import { ask, newId } from "./server.js";
import { Sheet, spelled } from "./sheet.js";
import { make, parts, say } from "./words.js";

const BEAT = 60; // seconds between signs of life for the lease, unless the server says
const TRACE = 1000; // steps that are kept of one task

const at = parts();
const local = new Local(at.editor.dataset.user);
const clock = new Clock();
const sheet = new Sheet(at.sentence, { spoken: at.spoken, toggled: (place) => act("toggle", place) });
const questions = new Questions(at.questions, { answered });
const proposals = new Proposals(at.proposals, { taken: (cuts) => { act("take", cuts); place().focus(); } });
const guideline = new Guideline(at, { acknowledged });
const saves = new Autosave({ local, send: save, told: saved });
const outbox = new Outbox(local, { sent, refused, waiting });

let task = null; // what the server gave
let state = null; // its Cuts or Boundaries
let trace = [];
let locked = true; // while nothing may change: between tasks, and while an answer is on its way

// ----------------------------------------------------------------------------------------- tasks

async function start() {
  if (await outbox.resume()) return; // an answer that a closed page left
  await next();
}

async function next({ keep = false } = {}) {
  locked = true;
  if (!keep) tell("error", "");
  try {
    task = await ask(at.editor.dataset.source);
  } catch (error) {
    return fail(error);
  }
  at.done.textContent = say("editor.done", { count: task.done });
  if (!task.guideline.acknowledged) await guideline.open();
  show();
}

function show() {
  at.work.hidden = !task.task;
  at.nothing.hidden = Boolean(task.task);
  if (!task.task) return at.again.focus();
  const draft = newest(task.draft, local.get(`draft:${task.task}`));
  const asked = task.candidates;
  const begun = draft ?? { cuts: task.cuts ?? [], decided: [], caret: null, active_ms: 0 };
  if (asked) {
    const answers = (begun.decided ?? []).map((place) => [place, begun.cuts.includes(place)]);
    state = new Boundaries(task.text, { candidates: asked, answers, at: asked.indexOf(begun.caret) });
  } else {
    state = new Cuts(task.text, { ...begun, doubts: task.doubts });
  }
  at.doubts.hidden = Boolean(asked) || !task.doubts?.length;
  [trace, locked] = [[], false];
  clock.start(begun.active_ms ?? 0, 1000 * task.lease.idle_seconds);
  saves.begin(task.task, draftOf);
  at.sentence.hidden = Boolean(asked);
  at.questions.hidden = !asked;
  view().lay(state);
  proposals.lay(task.text, task.answers ?? []);
  at.flags.hidden = !task.flags?.length;
  at.flags.replaceChildren(...(task.flags ?? []).map(flagged));
  showUnseen();
  place().focus();
  tell("news", say(asked ? "editor.asked" : "editor.text", { text: spelled(task.text), count: asked?.length }));
  tell("saved", "");
}

function flagged(note) {
  return make("p", note ? say("editor.flagged", { note }) : say("editor.unexplained"));
}

function view() {
  return task.candidates ? questions : sheet;
}

function place() {
  return task.candidates ? at.questions : at.sentence;
}

/** Of two drafts the one with more work in it: the clocks of two machines may differ. */
function newest(one, other) {
  if (!one || !other) return one ?? other;
  return other.active_ms >= one.active_ms ? other : one;
}

function draftOf() {
  const caret = task.candidates ? state.place : state.caret || null;
  const decided = task.candidates ? state.decided : null;
  return { cuts: state.list, decided, caret, active_ms: clock.ms };
}

/** Name what cannot be seen in the text. */
function showUnseen() {
  const names = clusters(task.text).flatMap(({ text }) => unseen(text)).filter((name) => name !== "␣");
  const counts = [...new Set(names)].map((name) => `${name} × ${names.filter((one) => one === name).length}`);
  at.unseen.textContent = counts.length ? say("editor.unseen", { names: counts.join(", ") }) : "";
}

// --------------------------------------------------------------------------------------- editing

/** Change the state, show it, and keep it. */
function act(kind, value, options) {
  if (locked) return;
  clock.touch();
  const was = state.caret ?? state.at, asked = state.place;
  const done = state[kind](value, options);
  const moved = (state.caret ?? state.at) !== was;
  if (done === false || (done === undefined && !moved)) return;
  if (done && trace.length < TRACE) trace.push({ ms: clock.ms, kind, at: state.caret ?? asked });
  view().show();
  saves.note();
  announce(kind);
}

function announce(kind) {
  if (task.candidates) {
    const text = state.window(state.place).slice(0, 2).map(spelled).join(" | ");
    return tell("news", say("editor.asked_at", { number: state.at + 1, count: task.candidates.length, text }));
  }
  if (kind === "toggle" || kind === "undo") tell("news", say(state.has(state.caret) ? "editor.cut" : "editor.joined"));
}

/** A button of boundary mode was pressed. */
function answered(i, yes) {
  act("move", i - state.at);
  act("answer", yes);
  place().focus();
}

// --------------------------------------------------------------------------------------- answers

async function submit() {
  if (locked) return;
  if (task.candidates && !state.complete) return tell("error", say("editor.incomplete"));
  clock.touch();
  locked = true;
  tell("error", "");
  const { cuts, decided, active_ms } = draftOf();
  const answer = { task: task.task, text_sha: sha256(task.text), guideline: task.guideline.version };
  await outbox.send({ ...answer, cuts, decided, active_ms, events: trace }, { draft: draftOf() });
}

async function sent(answer, { draft }) {
  local.set("last", { id: answer.id, task: answer.task, draft });
  saves.end();
  local.drop(`draft:${answer.task}`);
  await next();
}

async function refused(error) {
  if (error.code === "guideline_changed") {
    await guideline.open();
    if (!task) return next();
    task.guideline = { version: guideline.version ?? task.guideline.version, acknowledged: true };
    locked = false;
    return place().focus();
  }
  fail(error);
  if (error.status === 401) return;
  if (!task || error.status === 409 || error.status === 404) {
    saves.end({ keep: error.status === 404 }); // after a power cut the server may not know the task
    return next({ keep: true });
  }
  locked = false;
}

function waiting(seconds) {
  tell("error", say("editor.waiting", { seconds }));
}

async function undo() {
  if (locked) return;
  await saves.flush();
  const last = local.get("last") ?? (await latest());
  if (!last) return tell("error", say("editor.nothing_to_undo"));
  try {
    await ask(`api/annotations/${last.id}/void`, { method: "POST", body: { id: newId() } });
  } catch (error) {
    local.drop("last");
    return fail(error);
  }
  local.drop("last");
  if (last.draft) local.set(`draft:${last.task}`, last.draft);
  await next();
  tell("news", say("editor.undone"));
}

async function latest() {
  try {
    const { items } = await ask("api/history?limit=20");
    return items.find((one) => one.undoable) ?? null;
  } catch {
    return null;
  }
}

async function leave(kind, body) {
  if (locked) return;
  locked = true;
  const id = newId(), left = task.task, draft = draftOf();
  try {
    await ask(`api/tasks/${left}/${kind}`, { method: "POST", body: { id, active_ms: draft.active_ms, ...body } });
  } catch (error) {
    fail(error);
    if (error.status === 409 || error.status === 404) { // stored before, or given to others
      saves.end();
      return next({ keep: true });
    }
    locked = false;
    return;
  }
  local.set("last", { id, task: left, draft });
  saves.end();
  await next();
}

function flag() {
  if (!locked) at.flagging.showModal();
}

// ----------------------------------------------------------------------------------- the server

function save(name, draft, options) {
  return ask(`api/drafts/${name}`, { method: "PUT", body: draft, ...options });
}

function saved(fine, error) {
  if (fine) return tell("saved", say("editor.saved"));
  if (error.status === 0) return tell("saved", say("editor.kept"));
  fail(error);
}

async function beat() {
  if (!task?.task || locked || document.hidden) return;
  try {
    const { guideline: version } = await ask(`api/leases/${task.lease.id}/beat`, { method: "POST" });
    if (version !== task.guideline.version) tell("error", say("editor.guideline_changed"));
  } catch (error) {
    if (error.status) fail(error);
  }
}

async function acknowledged(version) {
  await ask(`api/guideline/${encodeURIComponent(version)}/acknowledge`, { method: "POST" });
}

function fail(error) {
  if (error.status === 401) return location.assign(at.editor.dataset.login);
  tell("error", error.message);
}

function tell(where, sentence) {
  at[where].textContent = sentence;
}

// ---------------------------------------------------------------------------------------- events

const numbers = Object.fromEntries(Array.from("123456789", (key, i) => [key, () => proposals.take(i)]));
const both = { Enter: submit, u: undo, s: () => leave("skip", {}), f: flag, g: () => guideline.open() };
bind(at.sentence, {
  ...both,
  " ": () => act("toggle"),
  ArrowLeft: () => act("move", -1),
  ArrowRight: () => act("move", 1),
  "Alt+ArrowLeft": () => act("move", -1, { all: true }),
  "Alt+ArrowRight": () => act("move", 1, { all: true }),
  "Ctrl+ArrowLeft": () => act("jump", -1),
  "Ctrl+ArrowRight": () => act("jump", 1),
  Home: () => act("end", -1),
  End: () => act("end", 1),
  "Ctrl+z": () => act("undo"),
  ...numbers,
});
bind(at.questions, {
  ...both,
  y: () => act("answer", true),
  n: () => act("answer", false),
  ArrowLeft: () => act("move", -1),
  ArrowUp: () => act("move", -1),
  ArrowRight: () => act("move", 1),
  ArrowDown: () => act("move", 1),
  "Ctrl+z": () => act("undo"),
  ...numbers,
});

const click = (name, run) => at[name].addEventListener("click", async () => {
  await run();
  if (task?.task && !document.querySelector("dialog[open]")) place().focus();
});
click("submit", submit);
click("undo", undo);
click("skip", () => leave("skip", {}));
click("flag", flag);
click("read", () => guideline.open());
click("again", () => next());

at.flagging.addEventListener("close", () => {
  if (at.flagging.returnValue === "flag") leave("flag", { note: at.note.value });
  at.flagging.returnValue = at.note.value = "";
  place().focus();
});
for (const kind of ["keydown", "pointerdown", "pointermove", "scroll"]) {
  addEventListener(kind, () => clock.touch(), { passive: true });
}
(async function pulse() {
  await beat();
  setTimeout(pulse, 1000 * (task?.lease?.beat_seconds ?? BEAT));
})();
start();
