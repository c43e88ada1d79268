/**
 * The viewer of a single image: as it is stored, with its overlay. The wheel or two fingers zoom, a
 * drag moves the picture, a click or tap tells the value; window and overlay are those of a volume.
 */

import { diameterOf } from "/ui/viewer/diameter.js";
import { listen } from "/ui/viewer/gestures.js";
import { Grid } from "/ui/viewer/grid.js";
import { loadResult } from "/ui/viewer/loading.js";
import { greyTable } from "/ui/viewer/paint.js";
import { Pane } from "/ui/viewer/pane.js";
import { pngOf, Stage } from "/ui/viewer/stage.js";
import { WINDOWS } from "/ui/windows.js";

const ZOOM_STEP = 1.15;
const HU_PER_PIXEL = 2;

export class ImageViewer {
  #stage;
  #values = null; // { hu, labels } as loaded
  #grid;
  #pane = null;
  #lesions = [];
  #voxel = [0, 0, 0];
  #window;
  #table;
  #overlay = {
    liver: { visible: true, opacity: 0.25 },
    tumor: { visible: true, opacity: 0.45 },
    style: "fill",
  };
  #mark = null;
  #isPointed = false; // the crosshair is there once it was asked for
  #onCursor = () => {};
  #onWindow = () => {};

  constructor(element) {
    this.#stage = new Stage(element, (context, scale) => this.#draw(context, scale));
    this.setWindow(WINDOWS[0]);
  }

  /** As of the viewer of a volume: image and mask are NIfTI files of one slice. */
  async open({ lesions = [], onProgress = () => {}, onCursor, onWindow, ...files }) {
    const { signal } = this.#stage;
    const onFraction = (fraction) => onProgress(fraction, "Loading the image");
    this.#values = await loadResult({ ...files, signal, onFraction });
    const { hu, labels } = this.#values;
    this.#lesions = lesions;
    this.#onCursor = onCursor ?? this.#onCursor;
    this.#onWindow = onWindow ?? this.#onWindow;
    this.#grid = new Grid(hu);
    this.#pane = new Pane(this.#grid, this.#grid.sourcePlane, hu.values, labels?.values ?? null);
    this.#voxel = this.#grid.nearest(hu.dims.map((length) => length / 2));
    listen(this.#stage.canvas, this.#gestures(), signal);
    this.#stage.drawNow();
  }

  setWindow({ center, width }) {
    this.#window = { center, width: Math.max(1, width) };
    this.#table = greyTable(this.#window);
    this.#stage.draw();
  }

  setOverlay({ liver, tumor, style }) {
    this.#overlay = { liver: { ...liver }, tumor: { ...tumor }, style };
    this.#stage.draw();
  }

  /** An image has no other slices and no other planes. */
  setLayout() {}

  step() {}

  /** Marks the lesion's longest diameter. */
  goToLesion(id) {
    const lesion = this.#lesions.find((each) => each.id === id);
    if (!lesion || !this.#grid) return;
    this.#mark = diameterOf(lesion, this.#grid, 1);
    this.#pointAt(this.#mark.middle);
  }

  clearLesion() {
    this.#mark = null;
    this.#stage.draw();
  }

  /** A PNG of what is shown. */
  snapshot() {
    this.#stage.drawNow();
    return pngOf(this.#stage.canvas);
  }

  close() {
    this.#stage.close();
    this.#values = this.#pane = null;
  }

  #pointAt(voxel) {
    const { hu, labels } = this.#values;
    this.#voxel = this.#grid.nearest(voxel);
    this.#isPointed = true;
    const index = this.#grid.indexOf(this.#voxel);
    this.#onCursor({
      mm: this.#grid.placed ? this.#grid.toMm(this.#voxel) : null,
      hu: hu.values[index],
      label: labels ? labels.values[index] : 0,
      slice: 0,
    });
    this.#stage.draw();
  }

  #draw(context, scale) {
    const { width, height } = context.canvas;
    context.clearRect(0, 0, width, height);
    if (!this.#pane) return;
    this.#pane.rect = { x: 0, y: 0, width, height };
    this.#pane.draw(context, {
      voxel: this.#voxel,
      table: this.#table,
      window: this.#window,
      overlay: this.#overlay,
      mark: this.#mark,
      crosshair: this.#isPointed,
      scale,
    });
    const marked = this.#mark ? `, longest diameter of the lesion ${this.#mark.text}` : "";
    this.#stage.canvas.setAttribute("aria-label", `CT image${marked}`);
  }

  #gestures() {
    const pixels = (point) => point.map((value) => value * this.#stage.scale);
    const change = (how) => {
      how();
      this.#stage.draw();
    };
    const pan = (_at, by) => change(() => this.#pane.panBy(pixels(by)));
    const zoom = (at, factor) => change(() => this.#pane.zoomAt(pixels(at), factor));
    return {
      pan,
      zoom,
      drag: pan,
      scroll: (at, steps) => zoom(at, ZOOM_STEP ** steps),
      reset: () => change(() => this.#pane.resetView()),
      point: (at) => {
        const [u, v] = this.#pane.toPlane(pixels(at));
        this.#pointAt(this.#pane.plane.toVoxel([u, v, 0]));
      },
      window: (right, down) => {
        const { center, width } = this.#window;
        this.setWindow({ center: center + down * HU_PER_PIXEL, width: width + right * HU_PER_PIXEL });
        this.#onWindow({ ...this.#window });
      },
    };
  }
}
