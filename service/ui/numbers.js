/**
 * Numbers as they are read: with a unit, and as many digits as the measurement carries.
 */

export const NONE = "–";

const written = (value, digits) =>
  value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });

const known = (format) => (value) => (value === null || value === undefined ? NONE : format(value));

/** Volumes and areas span four orders of magnitude: three digits, all before the point. */
const threeDigits = (value) => written(value, value >= 100 ? 0 : value >= 10 ? 1 : 2);

export const millilitres = known(threeDigits);
export const squareMillimetres = known((value) => written(value, 0));
export const count = known((value) => written(value, 0));
export const millimetres = known((value) => written(value, 1));
export const hounsfield = known((value) => written(value, 0).replace("-", "−"));
export const probability = known((value) => written(value, 2));
export const percent = known((value) => `${written(value * 100, 1)} %`);

/** How much a structure fills, in the best unit that is known: `{value, unit, kind}`. */
export function extent({ volume_ml: ml, area_mm2: mm2, area_px: px, voxels }) {
  if (ml !== null) return { value: millilitres(ml), unit: "mL", kind: "Volume" };
  if (mm2 !== null) return { value: squareMillimetres(mm2), unit: "mm²", kind: "Area" };
  if (px !== null) return { value: count(px), unit: "px", kind: "Area" };
  return { value: count(voxels), unit: "voxels", kind: "Size" };
}

/** A diameter in millimetres, or in pixels where their size is not known: `{value, unit}`. */
export function length({ length_mm: mm, length_px: px }) {
  return mm !== null ? { value: millimetres(mm), unit: "mm" } : { value: millimetres(px), unit: "px" };
}
