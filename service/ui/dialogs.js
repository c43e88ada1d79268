/**
 * Questions to the reader: the key, whether to delete, and the list of shortcuts.
 */

import { byId } from "/ui/dom.js";

/** Asks for the API key; null where it is not given. `wasRefused`: one was sent, and not taken. */
export function askForKey(wasRefused) {
  const dialog = byId("key-dialog"), field = byId("key");
  byId("key-text").textContent = wasRefused
    ? "This key was not accepted. Check it and enter it again."
    : "This service asks for a key. It is kept until you close this tab.";
  field.value = "";
  byId("key-cancel").onclick = () => dialog.close("");
  byId("key-form").onsubmit = () => { dialog.returnValue = "given"; };
  dialog.returnValue = "";
  dialog.showModal();
  return closed(dialog, () => {
    const key = field.value.replace(/[^!-~]/g, ""); // a header holds nothing else, and would fail
    field.value = "";
    return dialog.returnValue === "given" && key ? key : null;
  });
}

/** Whether the reader is sure to delete a study from the service. */
export function isSureToDelete() {
  const dialog = byId("delete-dialog");
  dialog.returnValue = "keep";
  dialog.showModal();
  return closed(dialog, () => dialog.returnValue === "delete");
}

export function showShortcuts() {
  byId("help-dialog").showModal();
}

function closed(dialog, result) {
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(result()), { once: true }));
}
