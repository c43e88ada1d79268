/**
 * The page from end to end: a study is picked, uploaded, watched and shown. The address holds the
 * segmentation's id (`/#id`), so that a reload and the back button find it again.
 */

import * as api from "/ui/api.js";
import * as controls from "/ui/controls.js";
import { askForKey, isSureToDelete, showShortcuts } from "/ui/dialogs.js";
import { announce, byId, element, notice } from "/ui/dom.js";
import { showDownloads } from "/ui/downloads.js";
import { showFindings } from "/ui/findings.js";
import { bindKeys } from "/ui/keys.js";
import { hideLoading, showLoading } from "/ui/loading.js";
import { explain } from "/ui/messages.js";
import * as progress from "/ui/progress.js";
import * as recent from "/ui/recent.js";
import { printReport } from "/ui/report.js";
import { SlicePictures } from "/ui/slices.js";
import { cursorText, showProvenance, sourceText } from "/ui/study.js";
import { acceptStudies } from "/ui/upload.js";

const MODEL_AGAIN_MS = 3000;
const PAGE_OF_SLICES = 10;

let doing = new AbortController(); // what the page is at; a new thing ends it
let isLoaded = false;
let served = null; // the model that the service has
let viewer = null; // what is looked at: pictures at first, then the viewer
let volume = null; // the viewer itself, also while it loads
let lesions = { all: [], at: null, mark: () => {} };

start();

function start() {
  api.onKeyNeeded(askForKey);
  controls.buildControls();
  acceptStudies(analyse, (problem) => showProblem(problem), api.blob);
  byId("new-study").addEventListener("click", () => goTo(""));
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault(); // the address names a study, nothing else
    byId("content").focus();
  });
  byId("help").addEventListener("click", showShortcuts);
  bindKeys(keyActions(), () => document.body.dataset.screen === "study");
  window.addEventListener("popstate", open);
  showModel();
  open();
}

/** What the address names: a study, or the start. */
function open() {
  const id = location.hash.slice(1);
  if (id) return watch(id);
  begin();
  showStart();
}

function goTo(id) {
  history.pushState(null, "", id ? `#${id}` : location.pathname);
  open();
}

/** Ends what the page was at, and returns the signal of what it does next. */
function begin() {
  doing.abort();
  doing = new AbortController();
  closeViewer();
  byId("report").replaceChildren(); // or the browser would print the last study's
  return doing.signal;
}

/** Uploads a study, then watches it. */
async function analyse(study, parameters = study.parameters) {
  const signal = begin();
  const sent = { ...study, parameters, key: study.key ?? newKey() };
  warmUp();
  showWorking(study.name, () => { begin(); showStart("The upload was cancelled."); });
  try {
    progress.showUpload(0);
    const job = await api.upload(sent, progress.showUpload, signal);
    recent.remember(job, study.name);
    history.pushState(null, "", `#${job.id}`);
    await watch(job.id, { ...study, key: null }); // tried again, it is another job
  } catch (problem) {
    // Where nobody knows whether the study arrived: the same key again.
    if (!signal.aborted) showProblem(problem, api.isPassing(problem) ? sent : { ...sent, key: null });
  }
}

/** Follows a segmentation to its end and shows what became of it. */
async function watch(id, study = null) {
  const signal = begin();
  const name = study?.name ?? recent.nameOfStudy(id);
  showWorking(name, () => cancel(id, signal));
  try {
    const job = await api.follow(id, { onProgress: progress.showJob, onLost: progress.showLost, signal });
    recent.remember(job, name);
    if (job.status === "succeeded") return await showStudy(job, name, signal);
    if (job.status === "cancelled") return showStart("The analysis was cancelled.");
    showProblem(job.error, study);
  } catch (problem) {
    if (signal.aborted) return;
    if (problem.status === 404) recent.forget(id);
    showProblem(problem, study);
  }
}

async function cancel(id, signal) {
  progress.showCancelling();
  try {
    await api.cancel(id);
  } catch (problem) {
    if (!signal.aborted && problem.code !== "no_result") showProblem(problem);
  }
}

// Screens

function show(screen, title) {
  document.body.dataset.screen = screen;
  for (const section of document.querySelectorAll(".screen")) section.hidden = section.id !== screen;
  byId("new-study").hidden = screen === "start";
  byId("alert").textContent = "";
  if (served) nameModel(served);
  // Screen readers go on from the new heading; a page that was just loaded is read from its top.
  if (isLoaded) byId(title).focus({ preventScroll: true });
  isLoaded = true;
}

async function showStart(news = "") {
  if (location.hash) history.replaceState(null, "", location.pathname);
  show("start", "start-title");
  notice("start-notice", news);
  announce(news);
  const draw = () => recent.showRecent(byId("recent"), byId("recent-list"), {
    onOpen: goTo, isSure: isSureToDelete, onProblem: (problem) => showProblem(problem),
  });
  draw();
  if (await recent.refreshRecent()) draw();
}

function showWorking(name, onCancel) {
  show("working", "working-title");
  progress.begin(name);
  byId("cancel").onclick = onCancel;
}

function showProblem(problem, study = null) {
  const { title, advice, again } = explain(problem);
  show("problem", "problem-title");
  byId("problem-title").textContent = title;
  byId("problem-advice").textContent = advice;
  byId("problem-actions").replaceChildren(...waysOut(study, again));
  const facts = [["Found", problem.detail], ["Code", problem.code], ["Request", problem.requestId ?? problem.request_id]];
  const known = facts.filter(([, value]) => value);
  byId("problem-facts").replaceChildren(...known.flatMap(([term, value]) => [element("dt", {}, term), element("dd", {}, value)]));
  byId("problem-more").hidden = !known.length;
  announce(`${title} ${advice}`, { polite: false });
}

/** What the reader can do about a problem; the files of a study are there as long as the page is. */
function waysOut(study, again) {
  const button = (label, kind, work) => {
    const made = element("button", { type: "button", className: kind }, label);
    made.addEventListener("click", work);
    return made;
  };
  const ways = [];
  if (study && again === "retry") ways.push(button("Try again", "primary", () => analyse(study)));
  if (study && again === "resample") {
    const parameters = { ...study.parameters, resample: "true" };
    ways.push(button("Resample and analyse", "primary", () => analyse({ ...study, parameters })));
  }
  return [...ways, button("Choose another study", ways.length ? "secondary" : "primary", () => goTo(""))];
}

async function showStudy(job, name, signal) {
  show("study", "study-title");
  byId("study-name").textContent = name;
  byId("study-source").textContent = sourceText(job.source);
  byId("cursor").textContent = "";
  notice("viewer-notice", "");
  const mark = showFindings(byId("findings"), job, goToLesion);
  lesions = { all: job.findings.lesions, at: job.findings.lesions[0]?.id ?? null, mark };
  mark(lesions.at);
  showDownloads(byId("downloads"), byId("downloads-hint"), job, () => printReport(job, name, viewer, signal));
  showProvenance(byId("provenance"), job);
  nameModel(job.model); // that of the answer, which may be older than the service's
  const found = job.findings.lesions.length;
  announce(`Done. ${found || "No"} ${found === 1 ? "lesion" : "lesions"} found.`);
  await Promise.all([showPicture(job, signal), showVolume(job, signal)]);
}

// The viewer

/** The largest lesion's largest slice, at once. */
async function showPicture(job, signal) {
  const pictures = new SlicePictures(job, signal);
  viewer = pictures;
  controls.release();
  controls.showControls({ layouts: job.source.slices > 1 });
  await pictures.open();
  if (viewer !== pictures) pictures.close(); // the volume was faster
}

async function showVolume(job, signal) {
  const pictures = viewer;
  try {
    showLoading(0);
    const opened = await openViewer(job, signal);
    if (signal.aborted) return;
    viewer = opened;
    controls.control(opened, { layouts: job.source.slices > 1 });
    if (lesions.at !== null) goToLesion(lesions.at);
    pictures.close();
  } catch (error) {
    if (signal.aborted) return;
    console.warn("The viewer could not be opened.", error);
    volume?.close();
    volume = null;
    pictures.enableSlider();
    controls.showControls({ all: false });
    notice("viewer-notice", "The viewer could not be opened. You see the slices as pictures, with the outlines drawn in.");
  } finally {
    if (!signal.aborted) hideLoading();
  }
}

/** The viewer of a volume, or of a single image, filled. */
async function openViewer(job, signal) {
  const isVolume = job.source.slices > 1;
  const { VolumeViewer, ImageViewer } = await import(isVolume ? "/ui/viewer.js" : "/ui/image-viewer.js");
  signal.throwIfAborted(); // the page has gone on: nobody would close it
  const opening = new (VolumeViewer ?? ImageViewer)(byId("viewer"));
  volume = opening;
  await opening.open({
    imageUrl: job.links.image_nifti,
    maskUrl: job.links.mask_nifti,
    headers: api.headers(),
    lesions: job.findings.lesions,
    slices: job.source.slices,
    onProgress: showLoading,
    onCursor: (cursor) => { byId("cursor").textContent = cursorText(cursor, job.source); },
    onWindow: controls.windowDragged,
  });
  return opening;
}

function closeViewer() {
  viewer?.close();
  if (volume !== viewer) volume?.close();
  viewer = volume = null;
  hideLoading();
}

function goToLesion(id) {
  lesions.at = id;
  lesions.mark(id);
  controls.showAxial();
  viewer?.goToLesion(id);
}

function nextLesion() {
  const { all, at } = lesions;
  if (!all.length) return;
  const index = all.findIndex(({ id }) => id === at);
  goToLesion(all[(index + 1) % all.length].id);
  announce(`Lesion ${lesions.at} of ${all.length}`);
}

function keyActions() {
  const layouts = [0, 1, 2, 3, 4].map((index) => [String(index + 1), () => controls.chooseLayoutAt(index)]);
  return {
    ArrowUp: () => viewer?.step(1),
    ArrowDown: () => viewer?.step(-1),
    PageUp: () => viewer?.step(PAGE_OF_SLICES),
    PageDown: () => viewer?.step(-PAGE_OF_SLICES),
    w: controls.nextWindow,
    o: controls.toggleOverlay,
    l: nextLesion,
    ...Object.fromEntries(layouts),
  };
}

/** The viewer is the largest part of the page: it is fetched while the study is on its way. */
function warmUp() {
  import("/ui/viewer.js").catch(() => {}); // told where it is needed
}

// The rest

/** Which model the service has; asked again until it is ready. */
async function showModel() {
  try {
    [served] = (await api.models()).models;
    if (document.body.dataset.screen !== "study") nameModel(served);
  } catch (problem) {
    byId("model").textContent = problem.status === 503 ? "Model: not ready yet" : "Model: not known";
    // Who has put the dialog aside is asked again when it matters.
    if (problem.status !== 401) setTimeout(showModel, MODEL_AGAIN_MS);
  }
}

function nameModel({ name, version }) {
  byId("model").textContent = `Model ${name} ${version}`;
}

/** A key of one attempt to send a study; a page without TLS has no `randomUUID`. */
function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
