/**
 * One plane on the screen: the slice, its overlay, the crosshair, the marked diameter and the letters
 * of the patient's sides, all drawn on a canvas that several panes share.
 */

import { COLORS, css, LIVER, outline, paintGrey, paintLabels, TUMOR } from "/ui/viewer/paint.js";

const TEXT = "#f2f2f2", CROSSHAIR = "rgb(120 190 255 / 0.75)", DIAMETER = "#ffe066";
const MARGIN = 0.96; // of the pane that the slice fills
const CROSSHAIR_GAP = 12, TICK = 5;
const FULL_OUTLINE = 0.5; // opacity from which outlines, being thin, are drawn in full
const ZOOM = [0.5, 16];
const TITLES = { axial: "Axial", coronal: "Coronal", sagittal: "Sagittal" };

export class Pane {
  #grey;
  #fill;
  #hu;
  #labels;
  #outlines = null;
  #drawn = {}; // which slice and window the canvases hold

  /** `labels` may be null. */
  constructor(grid, plane, hu, labels) {
    Object.assign(this, { grid, plane, hu, labels, rect: { x: 0, y: 0, width: 1, height: 1 } });
    const [width, height] = plane.size;
    this.#grey = Object.assign(document.createElement("canvas"), { width, height });
    this.#fill = Object.assign(document.createElement("canvas"), { width, height });
    this.#hu = new hu.constructor(width * height);
    this.#labels = labels && new Uint8Array(width * height);
    this.resetView();
  }

  resetView() {
    this.zoom = 1;
    this.pan = [0, 0];
  }

  contains([x, y]) {
    const { rect } = this;
    return x >= rect.x && y >= rect.y && x < rect.x + rect.width && y < rect.y + rect.height;
  }

  /** Zooms so that what lies under `point` stays there. */
  zoomAt(point, factor) {
    const zoom = Math.min(Math.max(this.zoom * factor, ZOOM[0]), ZOOM[1]);
    const middle = this.#middle();
    this.pan = this.pan.map((value, at) => {
      const offset = point[at] - middle[at];
      return offset - ((offset - value) * zoom) / this.zoom;
    });
    this.zoom = zoom;
  }

  panBy([x, y]) {
    this.pan = [this.pan[0] + x, this.pan[1] + y];
  }

  /** The slice's own coordinates, pixel centres at integers, of a point on the canvas. */
  toPlane([x, y]) {
    const [a, b, c, d, e, f] = this.#matrix();
    const determinant = a * d - b * c;
    return [
      (d * (x - e) - c * (y - f)) / determinant - 0.5,
      (a * (y - f) - b * (x - e)) / determinant - 0.5,
    ];
  }

  toScreen([u, v]) {
    const [a, b, c, d, e, f] = this.#matrix();
    return [a * (u + 0.5) + c * (v + 0.5) + e, b * (u + 0.5) + d * (v + 0.5) + f];
  }

  /**
   * `state`: voxel, table and window (grey), overlay, mark (the diameter or null), crosshair
   * (whether), scale (canvas pixels per CSS pixel).
   */
  draw(context, state) {
    const { x, y, width, height } = this.rect;
    context.save();
    context.beginPath();
    context.rect(x, y, width, height);
    context.clip();
    context.fillStyle = "#000";
    context.fillRect(x, y, width, height);
    const slice = this.plane.fromVoxel(state.voxel)[2];
    this.#drawSlice(context, slice, state);
    if (this.#labels) this.#drawOverlay(context, state);
    const mark = state.mark && this.#markedHere(state.mark, slice);
    if (state.crosshair) this.#drawCrosshair(context, state, mark ? 2.5 : 1);
    if (mark) this.#drawDiameter(context, mark, state.scale);
    this.#write(context, slice, state);
    context.restore();
  }

  #middle() {
    const { x, y, width, height } = this.rect;
    return [x + width / 2, y + height / 2];
  }

  /** From slice pixels (0 at the edge of the first) to the canvas. */
  #matrix() {
    const [columns, rows] = this.plane.size, [u, v] = this.plane.steps;
    const wide = columns * u[0], tall = columns * Math.abs(u[1]) + rows * v[1];
    const fit = Math.min(this.rect.width / wide, this.rect.height / tall) * MARGIN * this.zoom;
    const middle = this.#middle();
    const [a, b, c, d] = [u[0] * fit, u[1] * fit, v[0] * fit, v[1] * fit];
    return [a, b, c, d,
      middle[0] + this.pan[0] - (a * columns + c * rows) / 2,
      middle[1] + this.pan[1] - (b * columns + d * rows) / 2];
  }

  #drawSlice(context, slice, { table }) {
    const isNew = this.#drawn.slice !== slice;
    if (isNew) {
      this.plane.cut(this.hu, this.grid.dims, slice, this.#hu);
      if (this.#labels) this.plane.cut(this.labels, this.grid.dims, slice, this.#labels);
      this.#outlines = null;
    }
    if (isNew || this.#drawn.table !== table) paintGrey(this.#grey, this.#hu, table);
    this.#drawn = { slice, table, overlay: isNew ? null : this.#drawn.overlay };
    context.save();
    context.transform(...this.#matrix());
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.#grey, 0, 0);
    context.restore();
  }

  #drawOverlay(context, { overlay, scale }) {
    if (overlay.style === "outline") return this.#drawOutlines(context, overlay, scale);
    if (this.#drawn.overlay !== overlay) paintLabels(this.#fill, this.#labels, overlay);
    this.#drawn.overlay = overlay;
    context.save();
    context.transform(...this.#matrix());
    context.imageSmoothingEnabled = false; // the labels themselves, nothing in between
    context.drawImage(this.#fill, 0, 0);
    context.restore();
  }

  /** The liver's outline is that of the organ with its lesions. */
  #drawOutlines(context, overlay, scale) {
    this.#outlines ??= {
      liver: outline(this.#labels, this.plane.size, LIVER),
      tumor: outline(this.#labels, this.plane.size, TUMOR),
    };
    const toCanvas = new DOMMatrix(this.#matrix());
    context.lineWidth = 1.5 * scale;
    context.lineCap = "square"; // the lines end at corners
    for (const structure of ["liver", "tumor"]) {
      const { visible, opacity } = overlay[structure];
      if (!visible) continue;
      const path = new Path2D();
      path.addPath(this.#outlines[structure], toCanvas);
      context.strokeStyle = css(COLORS[structure], Math.min(1, opacity / FULL_OUTLINE));
      context.stroke(path);
    }
  }

  /**
   * The diameter on the canvas: where it lies in this slice, and dashed where the slice is the
   * lesion's largest one and it was measured on another.
   */
  #markedHere({ ends, place, measuredOn, text }, slice) {
    const inPlane = ends.map((voxel) => this.plane.fromVoxel(voxel));
    const onCanvas = inPlane.map((end) => this.toScreen(end));
    if (inPlane.every(([, , w]) => Math.abs(w - slice) <= 0.5)) return { ends: onCanvas, text };
    const isSource = this.plane.axes[2] === 2 && this.plane.name === "axial"; // as diameters are
    if (!isSource || Math.round(this.plane.fromVoxel(place)[2]) !== slice) return null;
    return { ends: onCanvas, text: `${text}, slice ${Math.round(measuredOn) + 1}`, dashed: true };
  }

  #drawCrosshair(context, { voxel, scale }, wider) {
    const [x, y] = this.toScreen(this.plane.fromVoxel(voxel)).map((value) => Math.round(value) + 0.5);
    const { rect } = this, gap = CROSSHAIR_GAP * scale * wider;
    context.strokeStyle = CROSSHAIR;
    context.lineWidth = scale;
    context.beginPath();
    for (const [from, to] of [[rect.x, x - gap], [x + gap, rect.x + rect.width]]) {
      context.moveTo(from, y);
      context.lineTo(to, y);
    }
    for (const [from, to] of [[rect.y, y - gap], [y + gap, rect.y + rect.height]]) {
      context.moveTo(x, from);
      context.lineTo(x, to);
    }
    context.stroke();
  }

  /** The line from end to end with a tick at each, and its length beside the lower end. */
  #drawDiameter(context, { ends: [from, to], text, dashed = false }, scale) {
    const length = Math.hypot(to[0] - from[0], to[1] - from[1]) || 1;
    const tick = [-(to[1] - from[1]) / length, (to[0] - from[0]) / length].map((part) => part * TICK * scale);
    const path = new Path2D();
    path.moveTo(...from);
    path.lineTo(...to);
    for (const [x, y] of [from, to]) {
      path.moveTo(x - tick[0], y - tick[1]);
      path.lineTo(x + tick[0], y + tick[1]);
    }
    context.lineCap = "butt";
    for (const [color, width] of [["rgb(0 0 0 / 0.7)", 4], [DIAMETER, 1.75]]) {
      context.strokeStyle = color;
      context.lineWidth = width * scale;
      context.setLineDash(dashed ? [6 * scale, 4 * scale] : []);
      context.stroke(path);
    }
    context.setLineDash([]);
    const right = from[0] > to[0] ? from : to;
    this.#text(context, text, [right[0] + 10 * scale, right[1]], scale, { color: DIAMETER });
  }

  #write(context, slice, { window, scale }) {
    const { x, y, width, height } = this.rect, edge = 8 * scale, row = 16 * scale;
    const isVolume = this.plane.size[2] > 1;
    const title = this.plane.letters ? TITLES[this.plane.name] : "Slice";
    if (isVolume) this.#text(context, `${title} ${slice + 1} / ${this.plane.size[2]}`, [x + edge, y + edge + row / 2], scale);
    this.#text(context, `C ${Math.round(window.center)} W ${Math.round(window.width)}`,
      [x + edge, y + height - edge - row / 2], scale);
    if (!this.plane.letters) return;
    const [left, right, top, bottom] = this.plane.letters, large = { size: 17, align: "center" };
    this.#text(context, left, [x + edge + row / 2, y + height / 2], scale, large);
    this.#text(context, right, [x + width - edge - row / 2, y + height / 2], scale, large);
    this.#text(context, top, [x + width / 2, y + edge + row / 2], scale, large);
    this.#text(context, bottom, [x + width / 2, y + height - edge - row / 2], scale, large);
  }

  /** Light on whatever lies below. */
  #text(context, text, [x, y], scale, { color = TEXT, size = 13, align = "left" } = {}) {
    context.font = `600 ${size * scale}px system-ui, sans-serif`;
    context.textAlign = align;
    context.textBaseline = "middle";
    context.lineJoin = "round";
    context.lineWidth = 3 * scale;
    context.strokeStyle = "rgb(0 0 0 / 0.8)";
    context.strokeText(text, x, y);
    context.fillStyle = color;
    context.fillText(text, x, y);
  }
}
