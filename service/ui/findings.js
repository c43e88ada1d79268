/**
 * What was found: volumes, burden, warnings and the table of lesions; of single images areas.
 */

import { element } from "/ui/dom.js";
import { explainWarning } from "/ui/messages.js";
import { extent, hounsfield, length, NONE, percent, probability } from "/ui/numbers.js";

/** Fills `place` and returns how to mark a lesion's row; `onLesion(id)` hears of a chosen one. */
export function showFindings(place, { findings, warnings }, onLesion) {
  const rows = new Map();
  place.replaceChildren(
    keyFigures(findings),
    ...(warnings.length ? [warningList(warnings)] : []),
    lesionSection(findings.lesions, onLesion, rows),
  );
  return (id) => {
    for (const [lesion, row] of rows) {
      if (lesion === id) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    }
    // On a tablet held upright the viewer would be scrolled away.
    if (matchMedia("(min-width: 901px)").matches) rows.get(id)?.scrollIntoView({ block: "nearest" });
  };
}

/** Liver, tumour and burden, as terms and values; the report shows them too. */
export function keyFigures({ liver, tumor, burden }) {
  return element("dl", { className: "figures" },
    figure("Liver", extent(liver), "liver"),
    figure("Tumour", extent(tumor), "tumor"),
    figure("Burden", { value: percent(burden), unit: "", kind: "of liver" }));
}

export function warningList(warnings) {
  const items = warnings.map((warning) => {
    const { text, detail } = explainWarning(warning);
    return element("li", {}, text, detail ? element("span", { className: "warning-detail" }, detail) : null);
  });
  return element("section", { className: "warnings", "aria-label": "Please note" },
    element("h2", {}, "Please note"), element("ul", {}, ...items));
}

/** The lesions as a table. `head(lesion)` makes the cell that names one. */
export function lesionTable(lesions, head) {
  const size = extent(lesions[0]), diameter = length(lesions[0].longest_diameter);
  const columns = [
    ["No.", ""], [size.kind, size.unit], ["Longest", diameter.unit],
    ...(isRecistKnown(lesions) ? [["RECIST", ""]] : []), ["Mean", "HU"], ["Prob.", ""],
  ];
  return element("table", { className: "lesions" },
    element("caption", { className: "unseen" }, "Lesions, the largest first"),
    element("thead", {}, element("tr", {}, ...columns.map(([name, unit]) =>
      element("th", { scope: "col" }, name, unit ? element("span", { className: "unit" }, unit) : null)))),
    element("tbody", {}, ...lesions.map((lesion) => lesionRow(lesion, head(lesion), isRecistKnown(lesions)))));
}

/** Whether the table says which lesions are measurable: where lengths are in pixels it cannot. */
export const isRecistKnown = (lesions) => lesions.some((lesion) => lesion.recist_measurable !== null);

export const RECIST_LEGEND =
  "RECIST 1.1: measurable in the axial plane, yes or no; target: measurable, and one of the two longest.";

function lesionSection(lesions, onLesion, rows) {
  const section = element("section", { className: "lesion-section" },
    element("h2", {}, lesions.length === 1 ? "1 lesion" : `${lesions.length || "No"} lesions`));
  if (!lesions.length) {
    section.append(element("p", { className: "hint" }, "No tumour was found. That does not mean that there is none."));
    return section;
  }
  const table = lesionTable(lesions, ({ id }) =>
    element("button", { type: "button", className: "lesion-button", "aria-label": `Go to lesion ${id}` }, String(id)));
  [...table.tBodies[0].rows].forEach((row, index) => {
    rows.set(lesions[index].id, row);
    row.addEventListener("click", () => onLesion(lesions[index].id)); // the button's clicks arrive here too
  });
  section.append(element("div", { className: "table-frame" }, table));
  if (isRecistKnown(lesions)) section.append(element("p", { className: "hint" }, RECIST_LEGEND));
  return section;
}

function lesionRow(lesion, head, hasRecist) {
  const row = element("tr", {},
    element("th", { scope: "row" }, head),
    element("td", {}, extent(lesion).value),
    element("td", {}, length(lesion.longest_diameter).value),
    hasRecist ? element("td", { className: "recist" }, recist(lesion)) : null,
    element("td", {}, hounsfield(lesion.mean_hu)),
    element("td", {}, probability(lesion.mean_tumor_probability)));
  row.dataset.lesion = lesion.id;
  return row;
}

function recist({ recist_measurable: measurable, recist_target_candidate: target }) {
  if (measurable === null) return NONE;
  return target ? "target" : measurable ? "yes" : "no";
}

function figure(name, { value, unit, kind }, structure = null) {
  const swatch = structure && element("span", { className: `swatch ${structure}`, "aria-hidden": "true" });
  return element("div", { className: "figure" },
    element("dt", {}, swatch, `${name} `, element("span", { className: "figure-kind" }, kind.toLowerCase())),
    element("dd", {}, value, unit ? element("span", { className: "unit" }, ` ${unit}`) : null));
}
