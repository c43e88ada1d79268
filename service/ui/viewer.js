/**
 * The viewer of a volume: axial, coronal and sagittal slices, alone or together, and a view in three
 * dimensions.
 *
 * Slices are drawn from the voxels themselves on a plain canvas. NiiVue draws the third dimension
 * only: for slices it keeps the windowed volume on the graphics card, and every change of the window
 * or the overlay computes all of it anew. Without a graphics card, a CT of 300 slices took two
 * minutes to show and one for each change; here it is there as soon as it has come, and each change
 * takes a few milliseconds.
 */

import { diameterOf } from "/ui/viewer/diameter.js";
import { listen } from "/ui/viewer/gestures.js";
import { Grid } from "/ui/viewer/grid.js";
import { loadResult } from "/ui/viewer/loading.js";
import { greyTable } from "/ui/viewer/paint.js";
import { Pane } from "/ui/viewer/pane.js";
import { Rendering } from "/ui/viewer/rendering.js";
import { pngOf, Stage } from "/ui/viewer/stage.js";
import { WINDOWS } from "/ui/windows.js";

const PLANES = ["axial", "coronal", "sagittal"];
const GAP = 2; // CSS pixels between panes
const HU_PER_PIXEL = 2; // of a drag of the window
const WIDTH_HU = [1, 4000], CENTER_HU = [-1500, 3000];

export class VolumeViewer {
  #element;
  #stage;
  #solid = null; // the element of the view in three dimensions
  #rendering = null; // a promise of it, once asked for
  #volume = null; // { hu, labels } as loaded
  #grid;
  #panes = {};
  #lesions = [];
  #sourceSlices = 0;
  #layout = "axial";
  #plane = "axial"; // which `step` scrolls
  #voxel = [0, 0, 0];
  #window;
  #table;
  #overlay = {
    liver: { visible: true, opacity: 0.25 },
    tumor: { visible: true, opacity: 0.45 },
    style: "fill",
  };
  #mark = null;
  #onCursor = () => {};
  #onWindow = () => {};

  constructor(element) {
    this.#element = element;
    this.#stage = new Stage(element, (context, scale) => this.#draw(context, scale));
    this.setWindow(WINDOWS[0]);
  }

  /**
   * Loads image and mask; rejects with an `AbortError` when closed before, and with an error that
   * has the answer's `status` where the service refuses.
   *
   * `onProgress(fraction, label)`; `onCursor({ mm, hu, label, slice })`: LPS mm or null, and the slice
   * of the source, which has `slices` of them, from 0, or null; `onWindow({ center, width })` when
   * the reader drags it.
   */
  async open({ lesions = [], slices, onProgress = () => {}, onCursor, onWindow, ...files }) {
    const { signal } = this.#stage;
    const onFraction = (fraction) => onProgress(fraction, "Loading the volume");
    this.#volume = await loadResult({ ...files, signal, onFraction });
    const { hu, labels } = this.#volume;
    this.#lesions = lesions;
    this.#sourceSlices = slices;
    this.#onCursor = onCursor ?? this.#onCursor;
    this.#onWindow = onWindow ?? this.#onWindow;
    this.#grid = new Grid(hu);
    for (const name of PLANES) {
      this.#panes[name] = new Pane(this.#grid, this.#grid.planes[name], hu.values, labels?.values ?? null);
    }
    listen(this.#stage.canvas, this.#gestures(), signal);
    this.#moveTo(this.#firstPlace());
    this.#stage.drawNow();
    await this.setLayout(this.#layout); // it may have been chosen before
  }

  /**
   * "axial", "coronal", "sagittal", "multi" or "3d". The last is ready when the promise is; where the
   * browser cannot draw it, words say so in its place.
   */
  async setLayout(name) {
    this.#layout = name;
    if (PLANES.includes(name)) this.#plane = name;
    this.#showSolid(name === "3d");
    this.#stage.draw();
    if (name === "3d" && this.#volume) await this.#rendered();
  }

  /** In HU; of the slices, since bones and organs in three dimensions have windows of their own. */
  setWindow({ center, width }) {
    this.#window = { center: clamp(center, CENTER_HU), width: clamp(width, WIDTH_HU) };
    this.#table = greyTable(this.#window);
    this.#stage.draw();
  }

  setOverlay({ liver, tumor, style }) {
    this.#overlay = { liver: { ...liver }, tumor: { ...tumor }, style };
    this.#rendering?.then((rendering) => rendering?.setOverlay(this.#overlay));
    this.#stage.draw();
  }

  /** Scrolls the current plane; more is towards head, back or the patient's left. */
  step(slices) {
    if (!this.#grid) return;
    const plane = this.#grid.planes[this.#plane];
    const [u, v, w] = plane.fromVoxel(this.#voxel);
    this.#moveTo(plane.toVoxel([u, v, clamp(w + slices, [0, plane.size[2] - 1])]));
  }

  /** To the lesion's largest slice; its longest diameter is marked. */
  goToLesion(id) {
    const lesion = this.#lesions.find((each) => each.id === id);
    if (!lesion || !this.#grid) return;
    this.#mark = diameterOf(lesion, this.#grid, this.#sourceSlices);
    this.#moveTo(this.#mark.place);
  }

  clearLesion() {
    this.#mark = null;
    this.#stage.draw();
  }

  /** A PNG of what is shown. */
  async snapshot() {
    const rendering = this.#layout === "3d" ? await this.#rendered() : null;
    if (rendering) return pngOf(rendering.canvas);
    this.#stage.drawNow();
    return pngOf(this.#stage.canvas);
  }

  close() {
    this.#stage.close();
    this.#rendering?.then((rendering) => rendering?.close());
    this.#solid?.remove();
    this.#volume = null;
    this.#panes = {};
  }

  // Where the crosshair is

  #moveTo(voxel) {
    this.#voxel = this.#grid.nearest(voxel);
    this.#tellCursor();
    this.#stage.draw();
  }

  #tellCursor() {
    const { hu, labels } = this.#volume, index = this.#grid.indexOf(this.#voxel);
    this.#onCursor({
      mm: this.#grid.placed ? this.#grid.toMm(this.#voxel) : null,
      hu: hu.values[index],
      label: labels ? labels.values[index] : 0,
      slice: this.#sourceSlice(),
    });
  }

  /** None where uneven slices were spread on a grid of other ones. */
  #sourceSlice() {
    const { sourcePlane } = this.#grid;
    return sourcePlane.size[2] === this.#sourceSlices ? sourcePlane.fromVoxel(this.#voxel)[2] : null;
  }

  /** The largest lesion, without one the middle of the liver, without one the volume's. */
  #firstPlace() {
    const [largest] = this.#lesions;
    if (largest) return diameterOf(largest, this.#grid, this.#sourceSlices).place;
    return middleOfLabels(this.#volume.labels) ?? this.#grid.dims.map((length) => length / 2);
  }

  // What is drawn

  #draw(context, scale) {
    const { width, height } = context.canvas;
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    if (!this.#volume || this.#layout === "3d") return;
    this.#arrange(width, height, GAP * scale);
    const state = {
      voxel: this.#voxel,
      table: this.#table,
      window: this.#window,
      overlay: this.#overlay,
      mark: this.#mark,
      crosshair: true,
      scale,
    };
    for (const pane of this.#shown()) pane.draw(context, state);
    this.#describe();
  }

  #shown() {
    return (this.#layout === "multi" ? PLANES : [this.#layout]).map((name) => this.#panes[name]);
  }

  /** Together: axial large, the others beside it, or below it on an upright screen. */
  #arrange(width, height, gap) {
    const { axial, coronal, sagittal } = this.#panes;
    if (this.#layout !== "multi") {
      this.#panes[this.#layout].rect = { x: 0, y: 0, width, height };
    } else if (width >= height) {
      const first = Math.round(width * 0.58), rest = width - first - gap, half = (height - gap) / 2;
      axial.rect = { x: 0, y: 0, width: first, height };
      coronal.rect = { x: first + gap, y: 0, width: rest, height: half };
      sagittal.rect = { x: first + gap, y: half + gap, width: rest, height: half };
    } else {
      const first = Math.round(height * 0.58), rest = height - first - gap, half = (width - gap) / 2;
      axial.rect = { x: 0, y: 0, width, height: first };
      coronal.rect = { x: 0, y: first + gap, width: half, height: rest };
      sagittal.rect = { x: half + gap, y: first + gap, width: half, height: rest };
    }
  }

  #describe() {
    const parts = this.#shown().map(({ plane }) => {
      return `${plane.name} slice ${plane.fromVoxel(this.#voxel)[2] + 1} of ${plane.size[2]}`;
    });
    const marked = this.#mark ? `, longest diameter of the lesion ${this.#mark.text}` : "";
    this.#stage.canvas.setAttribute("aria-label", `CT, ${parts.join(", ")}${marked}`);
  }

  // What the reader does

  #gestures() {
    return {
      scroll: (point, slices) => {
        this.#choosePane(point);
        this.step(slices);
      },
      point: (point) => {
        const pane = this.#choosePane(point);
        if (!pane) return;
        const [u, v] = pane.toPlane(this.#pixels(point));
        this.#moveTo(pane.plane.toVoxel([u, v, pane.plane.fromVoxel(this.#voxel)[2]]));
      },
      window: (right, down) => {
        const { center, width } = this.#window;
        this.setWindow({ center: center + down * HU_PER_PIXEL, width: width + right * HU_PER_PIXEL });
        this.#onWindow({ ...this.#window });
      },
      zoom: (point, factor) => this.#view(point, (pane) => pane.zoomAt(this.#pixels(point), factor)),
      pan: (point, by) => this.#view(point, (pane) => pane.panBy(this.#pixels(by))),
      reset: (point) => this.#view(point, (pane) => pane.resetView()),
    };
  }

  #choosePane(point) {
    const pane = this.#paneAt(point);
    if (pane) this.#plane = pane.plane.name;
    return pane;
  }

  #paneAt(point) {
    return this.#shown().find((pane) => pane?.contains(this.#pixels(point)));
  }

  #view(point, change) {
    const pane = this.#paneAt(point);
    if (pane) change(pane);
    this.#stage.draw();
  }

  #pixels(point) {
    return point.map((value) => value * this.#stage.scale);
  }

  // The third dimension

  #showSolid(shown) {
    if (!this.#solid) {
      this.#solid = document.createElement("div");
      this.#solid.setAttribute("role", "status");
      Object.assign(this.#solid.style, { position: "absolute", inset: "0", color: "#f2f2f2", textAlign: "center" });
      this.#element.append(this.#solid);
    }
    this.#solid.hidden = !shown;
  }

  /** The view in three dimensions, made when first asked for; null where the browser has none. */
  #rendered() {
    this.#rendering ??= this.#render();
    return this.#rendering;
  }

  async #render() {
    this.#solid.textContent = "Building the view in three dimensions…";
    await new Promise((resolve) => { setTimeout(resolve, 50); }); // the words are seen before the work
    try {
      return await Rendering.create(this.#solid, this.#volume, this.#overlay);
    } catch (error) {
      console.warn("No view in three dimensions.", error);
      this.#solid.textContent = "This browser cannot draw in three dimensions: it needs WebGL 2.";
      return null;
    }
  }
}

function middleOfLabels(labels) {
  if (!labels) return null;
  const { values, dims: [columns, rows] } = labels;
  let count = 0, i = 0, j = 0, k = 0;
  for (let index = 0; index < values.length; index++) {
    if (!values[index]) continue;
    count++;
    i += index % columns;
    j += Math.floor(index / columns) % rows;
    k += Math.floor(index / (columns * rows));
  }
  return count ? [i / count, j / count, k / count] : null;
}

const clamp = (value, [least, most]) => Math.min(Math.max(value, least), most);
