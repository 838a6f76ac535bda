"use strict";
// Moves the mark to the slider's operating point and shows that point's own texts; adds up a month's cost.
const all = (selector) => [...document.querySelectorAll(selector)];
const data = document.getElementById("points");
const { columns, chosen } = data ? JSON.parse(data.textContent) : { columns: {}, chosen: 0 };
const slider = document.getElementById("point");
const daily = document.getElementById("daily");
const price = document.getElementById("price");
const DAYS = 30.4;
const HOUR = 3.6e6; // milliseconds

function place(form, x, y) {
  const [left, bottom, right, top, xLow, yLow, xHigh, yHigh] = JSON.parse(form.dataset.frame);
  const at = left + ((x - xLow) / (xHigh - xLow)) * (right - left);
  const up = bottom + ((y - yLow) / (yHigh - yLow)) * (top - bottom);
  form.querySelector("circle").setAttribute("transform", `translate(${at} ${up})`);
  form.querySelector(".guide").setAttribute("d", `M${left} ${up}h9M${at} ${bottom}v-9`);
}

function show() {
  const index = Number(slider.value);
  for (const text of all("[data-live]")) text.textContent = columns[text.dataset.live][index];
  for (const form of all("[data-frame]")) place(form, columns.x[index], columns.y[index]);
  const costs = ["macs", "time"].filter((name) => columns[name]).map((name) => columns[name][index]);
  const kept = columns.kept ? `, ${columns.kept[index]} of the teacher's` : "";
  const words = `${columns.rate[index]} to the teacher: ${[columns.quality[index] + kept, ...costs].join("; ")}`;
  slider.setAttribute("aria-valuetext", words);
  document.getElementById("back").disabled = index === chosen;
  speak(words);
  if (daily) bill();
}

let waiting;
function speak(words) { // once the slider rests, so that a screen reader is not flooded
  clearTimeout(waiting);
  waiting = setTimeout(() => (document.querySelector(".spoken").textContent = words), 400);
}

function bill() {
  const images = daily.valueAsNumber * DAYS;
  for (const row of all("[data-side]")) {
    const live = row.dataset.side === "pair" && columns.ms;
    const ms = live ? columns.ms[slider.value] : Number(row.dataset.ms);
    if (live) row.querySelector(".ms").textContent = columns.time[slider.value].replace(" ms", "");
    row.querySelector(".hours").textContent = money((ms * 1e6) / HOUR);
    const cost = ((images * ms) / HOUR) * price.valueAsNumber;
    row.querySelector("td.monthly").textContent = Number.isFinite(cost) && cost >= 0 ? money(cost) : "-";
  }
}

const money = (value) => value.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });

function openAround(target) { // a link into a fold opens it
  const fold = target && target.closest("details");
  if (fold) {
    fold.open = true;
    target.scrollIntoView({ block: "center" });
  }
}

const opened = [];
addEventListener("beforeprint", () => {
  for (const fold of all(".details > details:not([open])")) {
    fold.open = true;
    opened.push(fold);
  }
});
addEventListener("afterprint", () => {
  for (const fold of opened.splice(0)) fold.open = false;
});
addEventListener("hashchange", () => openAround(document.getElementById(location.hash.slice(1))));
openAround(document.getElementById(location.hash.slice(1)));

if (slider) {
  for (const part of all(".slider, .mark")) part.removeAttribute("hidden");
  slider.value = chosen; // a browser may have kept another place
  slider.addEventListener("input", show);
  document.getElementById("back").addEventListener("click", () => {
    slider.value = chosen;
    slider.focus();
    show();
  });
}
if (daily) {
  for (const part of all(".prices, .monthly")) part.removeAttribute("hidden");
  for (const field of [daily, price]) field.addEventListener("input", bill);
}
if (slider) show();
else if (daily) bill();
