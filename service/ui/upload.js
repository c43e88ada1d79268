/**
 * How a study comes into the page: files or a folder, chosen or dropped. What it holds is for the
 * service to find out; only the clutter of operating systems is left out, and slices are put into the
 * order of their names, since pictures without a position are stacked as they come.
 */

import { byId } from "/ui/dom.js";

const CLUTTER = /^(\..*|Thumbs\.db|desktop\.ini|__MACOSX)$/i;
const SAMPLE = { url: "/ui/sample.zip", name: "Sample phantom" };

/** Wires the drop zone, the pickers and the sample. `onStudy({name, files, parameters})` hears of each. */
export function acceptStudies(onStudy, onProblem, fetchBlob) {
  const take = (picked) => {
    if (!picked.files.length) return onProblem({ code: "empty_input" });
    const given = parameters();
    byId("options").reset(); // they are of these pictures, and not of the next ones
    return onStudy({ ...picked, parameters: given });
  };
  picker("choose-files", "files", take);
  picker("choose-folder", "folder", take);
  dropZone(byId("drop"), take, onProblem);
  byId("options").addEventListener("submit", (event) => event.preventDefault());
  byId("sample").addEventListener("click", async () => {
    byId("sample").disabled = true;
    try {
      const zip = await fetchBlob(SAMPLE.url);
      onStudy({ name: SAMPLE.name, files: [new File([zip], "sample.zip")], parameters: {} });
    } catch (problem) {
      onProblem(problem);
    } finally {
      byId("sample").disabled = false;
    }
  });
}

function picker(buttonId, inputId, take) {
  const input = byId(inputId);
  byId(buttonId).addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    const paths = [...input.files].map((file) => [file.webkitRelativePath || file.name, file]);
    input.value = ""; // the same study may be chosen again
    take(ordered(paths));
  });
}

function dropZone(zone, take, onProblem) {
  // The whole window takes a drop: a study that misses the zone would replace the page.
  let inside = 0;
  const mark = (change) => {
    inside = Math.max(0, inside + change);
    zone.classList.toggle("is-over", inside > 0);
  };
  window.addEventListener("dragenter", () => mark(1));
  window.addEventListener("dragleave", () => mark(-1));
  window.addEventListener("dragover", (event) => event.preventDefault());
  window.addEventListener("drop", async (event) => {
    event.preventDefault();
    mark(-inside);
    if (document.body.dataset.screen === "working" || document.querySelector("dialog[open]")) return;
    if (![...event.dataTransfer.items].some(({ kind }) => kind === "file")) return; // text, a link
    try {
      take(ordered(await dropped(event.dataTransfer)));
    } catch (error) {
      onProblem(error);
    }
  });
}

/** Paths and files of a drop, folders included. The entries are gone once the event is over. */
async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map((file) => [file.name, file]);
  return (await Promise.all(entries.map(walk))).flat();
}

async function walk(entry) {
  if (CLUTTER.test(entry.name)) return [];
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [[entry.fullPath.replace(/^\//, ""), file]];
  }
  return (await Promise.all((await children(entry)).map(walk))).flat();
}

/** What a folder holds: browsers hand out about a hundred entries at a time. */
async function children(folder) {
  const reader = folder.createReader();
  const all = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return all;
    all.push(...some);
  }
}

function ordered(paths) {
  const natural = new Intl.Collator("en", { numeric: true });
  const kept = paths.filter(([path]) => !path.split("/").some((part) => CLUTTER.test(part)));
  kept.sort(([a], [b]) => natural.compare(a, b));
  return { name: nameOf(kept.map(([path]) => path)), files: kept.map(([, file]) => file) };
}

function nameOf(paths) {
  if (paths.length <= 1) return paths[0]?.split("/").pop() ?? "";
  const folder = paths[0].includes("/") ? paths[0].split("/")[0] : null;
  return folder ? `${folder} (${paths.length} files)` : `${paths.length} files`;
}

/** What was said of pictures; what is left empty is not sent. Half of the world writes 0,7. */
function parameters() {
  const given = [...new FormData(byId("options"))].map(([name, value]) => [name, value.trim().replace(",", ".")]);
  return Object.fromEntries(given.filter(([, value]) => value !== ""));
}
