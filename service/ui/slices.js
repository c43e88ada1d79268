/**
 * The service's own pictures of the slices, outlines drawn in: the first thing to be seen, while the
 * volume is on its way, and all that there is where the browser has no WebGL 2. It has the methods of
 * a viewer that make sense for a picture.
 */

import { blob } from "/ui/api.js";
import { byId } from "/ui/dom.js";

export class SlicePictures {
  #job;
  #slice = 0;
  #url = null;
  #signal;

  constructor(job, signal) {
    this.#job = job;
    this.#signal = signal;
  }

  /** Shows the largest lesion's largest slice, or the middle one where there is no lesion. */
  async open() {
    const [largest] = this.#job.findings.lesions;
    byId("picture-slider").hidden = true;
    await this.show(largest?.largest_slice ?? Math.floor(this.#job.source.slices / 2));
  }

  /** Lets the reader go through the slices: this is what they look at. */
  enableSlider() {
    const slider = byId("picture-slice");
    Object.assign(slider, { max: this.#job.source.slices - 1, value: this.#slice });
    slider.oninput = () => this.show(slider.valueAsNumber);
    byId("picture-slider").hidden = this.#job.source.slices < 2;
    byId("picture").onwheel = (event) => {
      event.preventDefault();
      this.step(event.deltaY > 0 ? -1 : 1);
    };
  }

  async show(slice) {
    this.#slice = Math.min(Math.max(slice, 0), this.#job.source.slices - 1);
    const asked = this.#slice;
    try {
      const content = await blob(pictureUrl(this.#job, asked), this.#signal);
      if (asked === this.#slice) this.#put(URL.createObjectURL(content)); // else the reader went on
    } catch {
      if (!this.#signal.aborted) byId("picture-caption").textContent = `Slice ${asked + 1} could not be loaded.`;
    }
  }

  step(slices) {
    return this.show(this.#slice + slices);
  }

  goToLesion(id) {
    const lesion = this.#job.findings.lesions.find((each) => each.id === id);
    return this.show(lesion.largest_slice);
  }

  snapshot() {
    return blob(pictureUrl(this.#job, this.#slice), this.#signal);
  }

  close() {
    byId("picture").hidden = true;
    byId("picture").onwheel = null;
    byId("picture-image").removeAttribute("src");
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#url = null;
  }

  #put(url) {
    const image = byId("picture-image"), total = this.#job.source.slices;
    const caption = total > 1 ? `Slice ${this.#slice + 1} of ${total}` : "";
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#url = url;
    image.src = url;
    image.alt = `${caption || "The image"}, with outlines of liver and tumours`;
    byId("picture-caption").textContent = caption;
    byId("picture-slice").value = this.#slice;
    byId("picture").hidden = false;
  }
}

/** The address of one slice's picture. */
export const pictureUrl = (job, slice) => job.links.overlay_png.replace("{slice}", slice);
