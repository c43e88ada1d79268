/** Pixels: Hounsfield units through a window, labels as colours, and the outlines of labels. */

export const LIVER = 1, TUMOR = 2;

/** As in the service's own pictures (service/encode/png.py). */
export const COLORS = { liver: [90, 200, 120], tumor: [255, 80, 70] };

/** Grey by stored value: the 65536 values of int16, so that a slice costs one look-up a pixel. */
export function greyTable({ center, width }) {
  const table = new Uint32Array(65536);
  const lowest = center - width / 2;
  for (let value = -32768; value < 32768; value++) {
    const grey = Math.min(Math.max(Math.round(((value - lowest) / width) * 255), 0), 255);
    table[value & 0xffff] = opaque(grey, grey, grey);
  }
  return table;
}

/** Draws Hounsfield units on a canvas of the slice's size. */
export function paintGrey(canvas, hu, table) {
  paint(canvas, (pixels) => {
    for (let index = 0; index < pixels.length; index++) pixels[index] = table[hu[index] & 0xffff];
  });
}

/** Draws labels on a canvas of the slice's size, transparent where there is none. */
export function paintLabels(canvas, labels, { liver, tumor }) {
  const table = new Uint32Array(256);
  table[LIVER] = translucent(COLORS.liver, liver);
  table[TUMOR] = translucent(COLORS.tumor, tumor);
  paint(canvas, (pixels) => {
    for (let index = 0; index < pixels.length; index++) pixels[index] = table[labels[index]];
  });
}

/**
 * The outline of all pixels with at least this label, along the pixels' edges; pixel (u, v) reaches
 * from u to u + 1.
 */
export function outline(labels, [columns, rows], label) {
  const path = new Path2D();
  const has = (u, v) => u >= 0 && v >= 0 && u < columns && v < rows && labels[v * columns + u] >= label;
  for (let v = 0; v <= rows; v++) addRuns(columns, (u) => has(u, v) !== has(u, v - 1), (from, to) => {
    path.moveTo(from, v);
    path.lineTo(to, v);
  });
  for (let u = 0; u <= columns; u++) addRuns(rows, (v) => has(u, v) !== has(u - 1, v), (from, to) => {
    path.moveTo(u, from);
    path.lineTo(u, to);
  });
  return path;
}

export const css = ([red, green, blue], alpha = 1) => `rgb(${red} ${green} ${blue} / ${alpha})`;

function addRuns(length, isEdge, add) {
  for (let at = 0; at < length; at++) {
    if (!isEdge(at)) continue;
    const from = at;
    while (at < length && isEdge(at)) at++;
    add(from, at);
  }
}

function paint(canvas, fill) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  fill(new Uint32Array(image.data.buffer));
  context.putImageData(image, 0, 0);
}

// Canvas pixels are red, green, blue, alpha in this order: as one number of a little-endian machine

const opaque = (red, green, blue) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;

function translucent([red, green, blue], { visible, opacity }) {
  const alpha = visible ? Math.round(Math.min(Math.max(opacity, 0), 1) * 255) : 0;
  return ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}
