/**
 * Elements of the page. Text goes in as text only, never as HTML: names of files and messages come
 * from outside.
 */

export const byId = (id) => document.getElementById(id);

/** A new element: `properties` are its own (`className`, `onclick`), or attributes with a dash or `role`. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Buttons of which one is pressed; `choose(name)` hears of it. Returns how to press one from elsewhere. */
export function segments(group, choices, choose) {
  const buttons = new Map();
  for (const { name, label, hint } of choices) {
    const button = element("button", { type: "button", title: hint ?? "", "aria-pressed": "false" }, label);
    button.dataset.name = name;
    button.addEventListener("click", () => choose(name));
    buttons.set(name, button);
  }
  group.replaceChildren(...buttons.values());
  return (pressed) => {
    for (const [name, button] of buttons) button.setAttribute("aria-pressed", String(name === pressed));
  };
}

/** Puts a notice into its place, which is hidden without one. */
export function notice(id, text) {
  byId(id).textContent = text;
  byId(id).hidden = !text;
}

/** Says something to screen readers: `polite` after what they are saying, else at once. */
export function announce(text, { polite = true } = {}) {
  byId(polite ? "status" : "alert").textContent = text;
}
