/**
 * A study in words: what was sent, where the cursor is, which model answered.
 */

import { element } from "/ui/dom.js";
import { hounsfield, millimetres } from "/ui/numbers.js";

const FORMATS = { dicom: "DICOM", nifti: "NIfTI" };
const LABELS = ["", "liver", "tumour"];
const AXES = [["R", "L"], ["A", "P"], ["F", "H"]];

/** Format, slices and voxel size in a line. */
export function sourceText({ format, slices, rows, columns, pixel_spacing_mm: pixel, slice_spacing_mm: slice }) {
  const size = slices === 1 ? `one image of ${columns} × ${rows}` : `${slices} slices of ${columns} × ${rows}`;
  const spacing = pixel ? [pixel[1], pixel[0], ...(slice ? [slice] : [])].map((mm) => Number(mm.toFixed(2))).join("\u00a0×\u00a0") : "";
  return [FORMATS[format] ?? format.toUpperCase(), size, spacing ? `${spacing}\u00a0mm` : "size not known"].join(", ");
}

export const timeText = (time) => new Date(time).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });

/** The cursor's place by the patient's sides, as in "R 42.1 A 7.8 H 20.3 mm", HU and structure. */
export function cursorText({ mm, hu, label, slice }, { orientation, slices }) {
  const place = mm && orientation
    ? `${mm.map((value, axis) => `${AXES[axis][Number(value >= 0)]} ${millimetres(Math.abs(value))}`).join(" ")} mm` : null;
  return [
    slices > 1 && Number.isInteger(slice) ? `Slice ${slice + 1}/${slices}` : null,
    place,
    hu === null || hu === undefined ? null : `${hounsfield(hu)} HU`,
    LABELS[label],
  ].filter(Boolean).join(" · ");
}

/** Which model made a result, and when: it may be another one than the service has now. */
export function showProvenance(place, { model, finished_at: finished, disclaimer }) {
  place.replaceChildren(
    element("p", {}, `Model ${model.name} ${model.version}, SHA-256 ${model.sha256.slice(0, 12)}…`),
    element("p", {}, `Analysed ${timeText(finished)} on ${model.device === "cpu" ? "a CPU" : "a GPU"}.`),
    element("p", { className: "provenance-use" }, disclaimer));
}
