/**
 * The studies of this browser tab. They are forgotten when it is closed, since names of files may be
 * names of patients; the service keeps the results themselves for its own time.
 */

import { hasEnded, remove, segmentation } from "/ui/api.js";
import { element } from "/ui/dom.js";
import { extent } from "/ui/numbers.js";

const KEY = "lts-recent";
const MOST = 20;

/** All of them, the newest first: `{id, name, at, status, summary}`. */
export const recentStudies = () => JSON.parse(sessionStorage.getItem(KEY) ?? "[]");

export const nameOfStudy = (id) => recentStudies().find((study) => study.id === id)?.name ?? "Study";

/** Notes a study, or what has become of one; a study of another tab has no name here. */
export function remember(job, name = nameOfStudy(job.id)) {
  const others = recentStudies().filter(({ id }) => id !== job.id);
  const study = { id: job.id, name, at: job.created_at, status: job.status, summary: summaryOf(job) };
  write([study, ...others].sort((a, b) => b.at.localeCompare(a.at)).slice(0, MOST));
}

export function forget(id) {
  write(recentStudies().filter((study) => study.id !== id));
}

/** Draws the list; `isSure()` asks before a study is deleted from the service. */
export function showRecent(section, list, { onOpen, isSure, onProblem }) {
  const studies = recentStudies();
  section.hidden = !studies.length;
  list.replaceChildren(...studies.map((study) => item(study, { onOpen, onDelete })));

  async function onDelete(id) {
    if (!(await isSure())) return;
    try {
      await remove(id);
    } catch (problem) {
      if (problem.status !== 404) return onProblem(problem);
    }
    forget(id);
    showRecent(section, list, { onOpen, isSure, onProblem });
  }
}

/** Asks how those are that had not ended; one that is gone from the service is forgotten. */
export async function refreshRecent() {
  const open = recentStudies().filter((study) => !hasEnded(study));
  await Promise.all(open.map(async ({ id, name }) => {
    try {
      remember(await segmentation(id), name);
    } catch (problem) {
      if (problem.status === 404) forget(id);
    }
  }));
  return open.length > 0;
}

function item(study, { onOpen, onDelete }) {
  const time = new Date(study.at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const open = element("button", { type: "button", className: "recent-open" },
    element("span", { className: "recent-name" }, study.name),
    element("span", { className: "recent-summary" }, `${time} · ${study.summary}`));
  const removal = element("button", { type: "button", className: "quiet", "aria-label": `Delete ${study.name}` }, "Delete");
  open.addEventListener("click", () => onOpen(study.id));
  removal.addEventListener("click", () => onDelete(study.id));
  return element("li", {}, open, removal);
}

function summaryOf({ status, findings }) {
  if (status === "failed") return "failed";
  if (status === "cancelled") return "cancelled";
  if (!findings) return "in progress";
  const { value, unit } = extent(findings.liver);
  const lesions = findings.lesions.length;
  return `liver ${value} ${unit}, ${lesions || "no"} ${lesions === 1 ? "lesion" : "lesions"}`;
}

const write = (studies) => sessionStorage.setItem(KEY, JSON.stringify(studies));
