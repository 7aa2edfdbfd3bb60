// What the interface says, in the language of the page.

const said = JSON.parse(document.querySelector("#words")?.textContent ?? "{}");

/** The sentence for a key, with `{name}` replaced by values. */
export function say(key, values = {}) {
  return (said[key] ?? key).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** An element with text: never HTML, as the text is anybody's. */
export function make(name, content = "", attributes = {}) {
  const element = document.createElement(name);
  element.textContent = content;
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

/** The elements of the page by their ids; what was clicked before there is a script would be lost. */
export function parts() {
  document.querySelector("main").inert = false;
  return Object.fromEntries([...document.querySelectorAll("[id]")].map((one) => [one.id, one]));
}
