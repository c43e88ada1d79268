/**
 * The screen of a study on its way: how much of it has left, then the service's stages as they come.
 */

import { announce, byId, element } from "/ui/dom.js";

const UPLOAD = "upload";
const STEPS = [
  { label: "Uploading", stages: [UPLOAD] },
  { label: "Waiting for its turn", stages: ["queued"] },
  { label: "Reading the images", stages: ["fetch", "inspect", "read"] },
  { label: "Outlining liver and tumours", stages: ["label"] },
  { label: "Checking the outlines", stages: ["clean_up"] },
  { label: "Measuring", stages: ["measure", "trace"] },
  { label: "Preparing pictures and reports", stages: ["publish", "deliver", "done"] },
];
const STATES = { done: "done", now: "in progress", next: "to come" };

let current = -1;

/** A new study: nothing has happened yet. */
export function begin(name) {
  current = -1;
  byId("working-name").textContent = name;
  byId("working-hint").textContent = "";
  byId("cancel").disabled = false;
  byId("stages").replaceChildren(...STEPS.map(({ label }) =>
    element("li", {}, label, element("span", { className: "unseen" }, ""))));
}

/** The part of the body that has left, from 0 to 1; the service looks into it before it answers. */
export function showUpload(fraction) {
  enter(UPLOAD);
  const label = fraction < 1 ? `Uploading, ${Math.floor(fraction * 100)} %` : "Checking the files";
  draw(label, fraction < 1 ? fraction : null);
}

/** A segmentation as an event or the resource tells it. */
export function showJob({ progress }) {
  const { stage, fraction, slices_done: done, slices_total: total } = progress;
  enter(stage);
  const counted = stage === "label" && total ? `, slice ${done} of ${total}` : "";
  draw(`${STEPS[current].label}${counted}`, stage === "queued" ? null : fraction);
  byId("working-hint").textContent = "The analysis goes on if you leave; you find it under recent studies.";
}

/** The connection is gone for now; the service works on. */
export function showLost() {
  draw("Connection lost, trying again", null);
  announce("Connection lost, trying again.");
}

export function showCancelling() {
  byId("cancel").disabled = true;
  draw("Cancelling", null);
}

function enter(stage) {
  const index = Math.max(STEPS.findIndex(({ stages }) => stages.includes(stage)), current, 0);
  if (index === current) return;
  current = index;
  [...byId("stages").children].forEach((item, at) => {
    const state = at < index ? "done" : at === index ? "now" : "next";
    item.className = state;
    item.lastChild.textContent = `, ${STATES[state]}`;
    if (state === "now") item.setAttribute("aria-current", "step");
    else item.removeAttribute("aria-current");
  });
  announce(STEPS[index].label);
}

function draw(label, fraction) {
  const bar = byId("working-bar");
  if (fraction === null) bar.removeAttribute("value");
  else bar.value = fraction;
  byId("working-label").textContent = label;
}
