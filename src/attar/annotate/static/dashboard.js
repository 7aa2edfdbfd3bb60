// Buttons and forms of the administrators' pages: each sends JSON, and the page is read again.

import { ask } from "./server.js";
import { parts, say } from "./words.js";

const at = parts();
const SAID = "attar:said"; // what to say after the page was read again

/** Send something, and show what came of it. */
async function act(source, path, options) {
  const buttons = source.matches("button") ? [source] : [...source.querySelectorAll("button")];
  buttons.forEach((button) => (button.disabled = true));
  at.error.textContent = "";
  try {
    const answer = await ask(path, options);
    const warnings = (answer?.warnings ?? []).map((warning) => ` ${warning}.`).join("");
    sessionStorage.setItem(SAID, say(source.dataset.said, answer ?? {}) + warnings);
    location.reload();
  } catch (error) {
    at.error.textContent = error.message;
    at.error.scrollIntoView({ block: "nearest" });
    buttons.forEach((button) => (button.disabled = false));
  }
}

/** The fields of a form as an object; empty ones are left out, `a.b` lies in a. */
function fields(form) {
  const found = {};
  for (const field of form.elements) {
    if (!field.name || field.value === "") continue;
    const { dataset } = field;
    const value = "number" in dataset ? Number(field.value)
      : "list" in dataset ? field.value.split(/[\s,]+/).filter(Boolean) : field.value;
    const [first, second] = field.name.split(".");
    if (second) (found[first] ??= {})[second] = value;
    else found[first] = value;
  }
  return found;
}

const SELECTORS = { post: "POST", patch: "PATCH", delete: "DELETE" };
for (const [name, method] of Object.entries(SELECTORS)) {
  for (const button of document.querySelectorAll(`button[data-${name}]`)) {
    const { body } = button.dataset;
    button.addEventListener("click", () =>
      act(button, button.dataset[name], { method, body: body ? JSON.parse(body) : undefined }));
  }
}

function onSubmit(selector, send) {
  for (const form of document.querySelectorAll(selector)) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      send(form);
    });
  }
}

onSubmit("form[data-send]", (form) => act(form, form.dataset.send, { method: "POST", body: fields(form) }));
onSubmit("form[data-patch-named]", (form) => {
  const { name, ...body } = fields(form);
  act(form, form.dataset.patchNamed + encodeURIComponent(name), { method: "PATCH", body });
});
onSubmit("form[data-upload]", (form) => {
  const file = form.elements.file.files[0];
  const { file: _, ...more } = fields(form);
  const query = new URLSearchParams({ name: file.name, ...more });
  act(form, `${form.dataset.upload}?${query}`, { method: "POST", body: file, type: "application/octet-stream" });
});

for (const button of document.querySelectorAll("button[data-token]")) {
  button.addEventListener("click", async () => {
    try {
      const { token } = await ask(button.dataset.token, { method: "POST", body: {} });
      at.token.textContent = say("users.shown_once", { token });
    } catch (error) {
      at.error.textContent = error.message;
    }
  });
}

// what the chosen option means: of several paragraphs, that of its value
for (const box of document.querySelectorAll("[data-explains]")) {
  const field = box.closest("form").elements[box.dataset.explains];
  const show = () => {
    for (const part of box.children) part.hidden = part.dataset.value !== field.value;
  };
  field.addEventListener("change", show);
  show();
}

at.news.textContent = sessionStorage.getItem(SAID) ?? "";
sessionStorage.removeItem(SAID);
