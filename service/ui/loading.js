/**
 * How far the viewer is with what it loads, in a corner of it.
 */

import { byId } from "/ui/dom.js";

/** `fraction` from 0 to 1, or null where nobody knows. */
export function showLoading(fraction, label = "Loading the volume") {
  const bar = byId("loading-bar"), isKnown = fraction !== null;
  byId("loading").hidden = false;
  if (isKnown) bar.value = fraction;
  else bar.removeAttribute("value");
  byId("loading-label").textContent = isKnown ? `${label}, ${Math.round(fraction * 100)} %` : label;
}

export function hideLoading() {
  byId("loading").hidden = true;
}
