/**
 * What a reader takes away: DICOM objects and NIfTI from the service, and the lesions as CSV, which
 * is made here.
 */

import { blob } from "/ui/api.js";
import { element } from "/ui/dom.js";
import { explain } from "/ui/messages.js";

const USE = "Research use only, not for diagnosis";
const DICOM_PARTS = [
  { name: "DICOM SEG", link: "mask_dicom", file: "seg.dcm" },
  { name: "DICOM SR", link: "report_dicom", file: "sr.dcm" },
  { name: "RTSTRUCT", link: "rtstruct", file: "rtstruct.dcm" },
];
const PARTS = [{ name: "NIfTI mask", link: "mask_nifti", file: "mask.nii.gz" }];

/** Buttons for all there is of a result; `hint` says what is missing, or what failed. */
export function showDownloads(list, hint, job, onReport) {
  const isDicom = job.source.format === "dicom";
  say(hint, isDicom ? "" : "SEG, SR and RTSTRUCT refer to DICOM images; this study was none.");
  const parts = (isDicom ? [...DICOM_PARTS, ...PARTS] : PARTS).filter(({ link }) => job.links[link]);
  const buttons = parts.map(({ name, link, file }) =>
    button(name, hint, async () => save(await blob(job.links[link]), nameOf(job, file))));
  const csv = () => save(new Blob([lesionsCsv(job)], { type: "text/csv" }), nameOf(job, "lesions.csv"));
  list.replaceChildren(...buttons, button("Lesions (CSV)", hint, csv), button("Print report", hint, onReport));
}

function button(name, hint, work) {
  const made = element("button", { type: "button", className: "secondary" }, name);
  made.addEventListener("click", async () => {
    made.disabled = true; // a large object takes a moment; a second click would fetch it twice
    try {
      await work();
    } catch (problem) {
      say(hint, `${name}: ${explain(problem).title}`);
    } finally {
      made.disabled = false;
      made.focus();
    }
  });
  return made;
}

function say(hint, text) {
  hint.textContent = text;
  hint.hidden = !text;
}

/** Files of several studies lie in one folder of downloads: the id tells them apart. */
export const nameOf = (job, file) => `liver-${job.id.slice(0, 8)}-${file}`;

function save(content, name) {
  const url = URL.createObjectURL(content);
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000); // the browser may still be reading
}

/** RFC 4180. Slices count from 0 as in the API; positions are LPS millimetres. */
export function lesionsCsv({ findings, model }) {
  const point = (values, axis) => values?.[axis];
  const columns = [
    ["lesion", (lesion) => lesion.id],
    ["volume_ml", (lesion) => lesion.volume_ml],
    ["area_mm2", (lesion) => lesion.area_mm2],
    ["area_px", (lesion) => lesion.area_px],
    ["voxels", (lesion) => lesion.voxels],
    ["longest_diameter_mm", (lesion) => lesion.longest_diameter_mm],
    ["short_diameter_mm", (lesion) => lesion.short_diameter_mm],
    ["longest_diameter_px", (lesion) => lesion.longest_diameter.length_px],
    ["short_diameter_px", (lesion) => lesion.short_diameter.length_px],
    ["recist_measurable", (lesion) => lesion.recist_measurable],
    ["recist_target_candidate", (lesion) => lesion.recist_target_candidate],
    ["mean_hu", (lesion) => lesion.mean_hu],
    ["mean_tumor_probability", (lesion) => lesion.mean_tumor_probability],
    ["first_slice", (lesion) => lesion.first_slice],
    ["last_slice", (lesion) => lesion.last_slice],
    ["largest_slice", (lesion) => lesion.largest_slice],
    ["centroid_l_mm", (lesion) => point(lesion.centroid_mm, 0)],
    ["centroid_p_mm", (lesion) => point(lesion.centroid_mm, 1)],
    ["centroid_h_mm", (lesion) => point(lesion.centroid_mm, 2)],
    ["model", () => `${model.name} ${model.version}`],
    ["use", () => USE],
  ];
  const rows = findings.lesions.map((lesion) => columns.map(([, value]) => value(lesion)));
  return [columns.map(([name]) => name), ...rows].map((row) => `${row.map(quoted).join(",")}\r\n`).join("");
}

/** A cell; what is not known stays empty. */
function quoted(value) {
  const text = String(value ?? "");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
