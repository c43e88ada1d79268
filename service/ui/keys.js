/**
 * Keys of the viewer. Single letters can be switched off (WCAG 2.1.4): who speaks to the computer
 * would set them off by chance.
 */

import { byId } from "/ui/dom.js";

const OFF = "lts-keys-off";
const TYPING = "input:not([type=checkbox]), select, textarea, dialog";

/** `actions` by the name of the key; `isActive()` says whether a study is shown. */
export function bindKeys(actions, isActive) {
  const on = byId("keys-on");
  on.checked = sessionStorage.getItem(OFF) === null;
  on.addEventListener("change", () => {
    if (on.checked) sessionStorage.removeItem(OFF);
    else sessionStorage.setItem(OFF, "yes");
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (!isActive() || event.target.closest(TYPING)) return;
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action || (event.key.length === 1 && !on.checked)) return;
    event.preventDefault();
    action();
  });
}
