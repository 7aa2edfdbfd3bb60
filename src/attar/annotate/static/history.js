// Earlier answers, of which the latest can be taken back.

import { ask, newId } from "./server.js";
import { parts } from "./words.js";

const at = parts();

for (const button of document.querySelectorAll("[data-void]")) {
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await ask(`api/annotations/${button.dataset.void}/void`, { method: "POST", body: { id: newId() } });
      location.assign("annotate");
    } catch (error) {
      button.disabled = false;
      at.error.textContent = error.message;
    }
  });
}
