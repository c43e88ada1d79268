/**
 * The canvas that fills an element: it has the screen's own pixels, follows the element's size, and
 * draws at most once a frame.
 */

export class Stage {
  #draw;
  #asked = 0;
  #observer;
  #live = new AbortController();

  /** `draw(context, scale)`: canvas pixels per CSS pixel. */
  constructor(element, draw) {
    this.#draw = draw;
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("role", "img");
    Object.assign(this.canvas.style, { display: "block", position: "absolute", inset: "0", width: "100%", height: "100%" });
    element.append(this.canvas);
    this.#observer = new ResizeObserver(() => this.drawNow());
    this.#observer.observe(element);
  }

  get scale() {
    return window.devicePixelRatio || 1;
  }

  /** Aborts when the stage is closed. */
  get signal() {
    return this.#live.signal;
  }

  draw() {
    this.#asked ||= requestAnimationFrame(() => this.drawNow());
  }

  /** At once: a page in the background gets no frames. */
  drawNow() {
    cancelAnimationFrame(this.#asked);
    this.#asked = 0;
    const { clientWidth, clientHeight } = this.canvas;
    const width = Math.max(1, Math.round(clientWidth * this.scale));
    const height = Math.max(1, Math.round(clientHeight * this.scale));
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    this.#draw(this.canvas.getContext("2d"), this.scale);
  }

  close() {
    this.#live.abort();
    cancelAnimationFrame(this.#asked);
    this.#observer.disconnect();
    this.canvas.remove();
  }
}

/** The canvas as a PNG. */
export function pngOf(canvas) {
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("The canvas could not be read."))), "image/png");
  });
}
