// Keys by the name that is printed on them.

/** Call `actions[name]` for keys pressed in an element, such as "Alt+ArrowLeft", "Ctrl+z", "u". */
export function bind(place, actions) {
  place.addEventListener("keydown", (event) => {
    const action = !event.isComposing && actions[nameOf(event)];
    if (!action || event.target !== place) return; // buttons inside keep their own keys
    event.preventDefault();
    if (!event.repeat || event.key.startsWith("Arrow")) action();
  });
}

/** On a Thai keyboard the key U writes a vowel: then the place of the key counts. */
function nameOf(event) {
  const latin = /^[a-z]$/i.test(event.key);
  const placed = event.code.startsWith("Key") && !/^[ -~]$/.test(event.key);
  const key = latin ? event.key : placed ? event.code.slice(3) : event.key;
  const held = [["Alt", event.altKey], ["Ctrl", event.ctrlKey || event.metaKey]];
  const before = held.filter(([, down]) => down).map(([name]) => `${name}+`);
  return before.join("") + (key.length === 1 ? key.toLowerCase() : key);
}
