/**
 * The controls around a viewer: layout, window, overlay. They keep what the reader chose from one
 * study to the next, and put it to whichever viewer is shown.
 */

import { byId, segments } from "/ui/dom.js";
import { WINDOWS } from "/ui/windows.js";

const LAYOUTS = [
  { name: "axial", label: "Axial" },
  { name: "coronal", label: "Coronal" },
  { name: "sagittal", label: "Sagittal" },
  { name: "multi", label: "All planes" },
  { name: "3d", label: "3D" },
];
const STYLES = [{ name: "fill", label: "Fill" }, { name: "outline", label: "Outline" }];

/** Of each style: a fill lets the tissue be seen, an outline has to be seen itself. */
const opacities = { fill: { liver: 0.25, tumor: 0.45 }, outline: { liver: 0.9, tumor: 1 } };

const chosen = { layout: "axial", window: WINDOWS[0].name, style: "fill" };
let viewer = null;
let press;

/** Builds the controls, once. */
export function buildControls() {
  const windows = WINDOWS.map((each) => ({ ...each, hint: `Centre ${each.center} HU, width ${each.width} HU` }));
  press = {
    layout: segments(byId("layouts"), LAYOUTS, chooseLayout),
    window: segments(byId("windows"), windows, chooseWindow),
    style: segments(byId("styles"), STYLES, chooseStyle),
  };
  for (const structure of ["liver", "tumor"]) {
    byId(`${structure}-visible`).addEventListener("change", applyOverlay);
    byId(`${structure}-opacity`).addEventListener("input", (event) => {
      opacities[chosen.style][structure] = event.target.valueAsNumber;
      applyOverlay();
    });
  }
  for (const name of Object.keys(press)) press[name](chosen[name]);
  showOpacities();
}

/** Shows those that have something to move; pictures have their outlines drawn in. */
export function showControls({ layouts = true, all = true } = {}) {
  byId("tools").hidden = !all;
  byId("tools-below").hidden = !all;
  byId("layouts").hidden = !layouts;
}

/** Until there is a viewer, what is chosen is kept for it. */
export function release() {
  viewer = null;
}

/** From now on the controls move this viewer. */
export function control(shown, { layouts = true } = {}) {
  viewer = shown;
  showControls({ layouts });
  if (chosen.window === null) chooseWindow(WINDOWS[0].name); // what was dragged belonged to another study
  if (layouts) chooseLayout(chosen.layout);
  applyWindow();
  applyOverlay();
}

/** The layout by its number, from 0, where the viewer has layouts. */
export function chooseLayoutAt(index) {
  if (!byId("layouts").hidden && LAYOUTS[index]) chooseLayout(LAYOUTS[index].name);
}

/** A lesion's diameter lies in the axial plane: to where it is seen. */
export function showAxial() {
  if (!["axial", "multi"].includes(chosen.layout)) chooseLayout("axial");
}

export function nextWindow() {
  const at = WINDOWS.findIndex(({ name }) => name === chosen.window);
  chooseWindow(WINDOWS[(at + 1) % WINDOWS.length].name);
}

/** The reader dragged the window: it is that of no preset. */
export function windowDragged() {
  chosen.window = null;
  press.window(null);
}

/** Both structures on, or both off. */
export function toggleOverlay() {
  const boxes = [byId("liver-visible"), byId("tumor-visible")];
  const anyShown = boxes.some((box) => box.checked);
  for (const box of boxes) box.checked = !anyShown;
  applyOverlay();
}

function chooseLayout(name) {
  chosen.layout = name;
  press.layout(name);
  viewer?.setLayout(name);
}

function chooseWindow(name) {
  chosen.window = name;
  press.window(name);
  applyWindow();
}

function chooseStyle(name) {
  chosen.style = name;
  press.style(name);
  showOpacities();
  applyOverlay();
}

function showOpacities() {
  for (const [structure, opacity] of Object.entries(opacities[chosen.style])) {
    byId(`${structure}-opacity`).value = opacity;
  }
}

function applyWindow() {
  const preset = WINDOWS.find(({ name }) => name === chosen.window);
  if (preset) viewer?.setWindow({ center: preset.center, width: preset.width });
}

function applyOverlay() {
  const of = (structure) => ({
    visible: byId(`${structure}-visible`).checked,
    opacity: opacities[chosen.style][structure],
  });
  viewer?.setOverlay({ liver: of("liver"), tumor: of("tumor"), style: chosen.style });
}
