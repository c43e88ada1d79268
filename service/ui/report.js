/**
 * The report for paper or PDF, on one page: findings, the largest lesions with their pictures, what
 * to note, and where all of it comes from. It is part of the page and seen in print only.
 */

import { blob } from "/ui/api.js";
import { byId, element } from "/ui/dom.js";
import { isRecistKnown, keyFigures, lesionTable, RECIST_LEGEND, warningList } from "/ui/findings.js";
import { pictureUrl } from "/ui/slices.js";
import { sourceText, timeText } from "/ui/study.js";

/** As many as fit on the page: the CSV has all. */
const MOST_LESIONS = 8;
const MOST_PICTURES = 3;

/** With so few rows the pictures have room to be large. */
const FEW_LESIONS = 4, FEW_WARNINGS = 2;

/** Fills the report of a study and opens the browser's print dialog, unless the reader goes on. */
export async function printReport(job, name, viewer, signal) {
  const content = [...written(job, name), await pictures(job, viewer), foot(job)];
  if (signal.aborted) return;
  byId("report").replaceChildren(...content);
  const title = document.title;
  document.title = `Liver report ${name}`; // browsers take it as the name of a PDF
  window.print();
  document.title = title;
}

function written(job, name) {
  const lesions = job.findings.lesions;
  const shown = lesions.slice(0, MOST_LESIONS);
  const left = lesions.length - shown.length;
  return [
    element("header", {},
      element("h1", {}, "Liver tumour segmentation"),
      element("p", { className: "report-use" }, "Research use only, not for diagnosis")),
    element("dl", { className: "report-facts" },
      ...fact("Study", name), ...fact("Images", sourceText(job.source)), ...fact("Analysed", timeText(job.finished_at))),
    keyFigures(job.findings),
    element("h2", {}, lesions.length ? `Lesions: ${lesions.length}` : "No lesion was found"),
    ...(shown.length ? [lesionTable(shown, ({ id }) => String(id)), note(shown, left)] : []),
    ...(job.warnings.length ? [warningList(job.warnings)] : []),
  ];
}

function note(shown, left) {
  const sentences = [isRecistKnown(shown) ? RECIST_LEGEND : "", left ? `${left} smaller ones are not shown.` : ""];
  return element("p", { className: "report-note" }, sentences.join(" ").trim());
}

/** What the reader looks at now, then the slices of the largest lesions. */
async function pictures(job, viewer) {
  const wanted = [
    { caption: "Current view", content: viewer.snapshot() },
    ...slicesToShow(job).map(({ slice, caption }) => ({ caption, content: blob(pictureUrl(job, slice)) })),
  ];
  const contents = await Promise.allSettled(wanted.map(({ content }) => content));
  const figures = contents.map((made, index) =>
    made.status === "fulfilled" && made.value ? picture(made.value, wanted[index].caption) : null);
  const isRoomy = job.findings.lesions.length <= FEW_LESIONS && job.warnings.length <= FEW_WARNINGS;
  return element("div", { className: `report-pictures ${isRoomy ? "large" : ""}` }, ...(await Promise.all(figures)));
}

function slicesToShow({ findings, source }) {
  if (!findings.lesions.length) {
    const slice = Math.floor(source.slices / 2);
    return [{ slice, caption: `Slice ${slice + 1}` }];
  }
  const slices = new Map(); // lesions of one slice share its picture
  for (const { id, largest_slice: slice } of findings.lesions) {
    slices.set(slice, [...(slices.get(slice) ?? []), id]);
  }
  return [...slices].slice(0, MOST_PICTURES).map(([slice, ids]) => ({
    slice,
    caption: `Lesion ${ids.slice(0, 4).join(", ")}${source.slices > 1 ? `, slice ${slice + 1}` : ""}`,
  }));
}

async function picture(content, caption) {
  const image = element("img", { src: URL.createObjectURL(content), alt: caption });
  await image.decode().catch(() => {}); // a picture that cannot be shown leaves its caption
  URL.revokeObjectURL(image.src);
  return element("figure", {}, image, element("figcaption", {}, caption));
}

function foot({ model, id }) {
  return element("footer", {},
    `Model ${model.name} ${model.version} (SHA-256 ${model.sha256.slice(0, 16)}…), segmentation ${id}. ` +
    "Made by software, not reviewed. Liver in green, tumours in red. Research use only, not for diagnosis.");
}

const fact = (term, value) => [element("dt", {}, term), element("dd", {}, value)];
