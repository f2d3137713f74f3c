// Keeps the page as the ledger is: the server sends parts of it anew (server-sent events), and each takes the place of the
// element with its id. Nothing here is needed to use the page. It stops in a hidden tab, and when the button says so.
"use strict";

const address = document.currentScript.dataset.live;
const button = document.getElementById("live");
const waiting = new Map(); // parts that came while somebody was at work in their place
let source = null;
let paused = sessionStorage.getItem("sequencer-live") === "off";

function show() {
	button.hidden = false;
	button.setAttribute("aria-pressed", String(!paused));
	button.textContent = paused ? "Paused" : source && source.readyState === EventSource.OPEN ? "Live" : "Connecting";
}

// Somebody types there, or has opened a form.
function busy(element) {
	const at = document.activeElement;
	return element.contains(at) && at.matches("input, select, textarea") || element.querySelector("details.action[open]") !== null;
}

function swap(id, html) {
	const old = document.getElementById(id);
	if (!old) return;
	if (busy(old)) {
		waiting.set(id, html);
		return;
	}
	waiting.delete(id);
	const template = document.createElement("template");
	template.innerHTML = html;
	const fresh = template.content.firstElementChild;
	const focusable = "a, button, summary, [tabindex]";
	const focused = old.contains(document.activeElement) ? [...old.querySelectorAll(focusable)].indexOf(document.activeElement) : -1;
	const open = [...old.querySelectorAll("details")].map((d) => d.open);
	const scrolled = [...old.querySelectorAll(".scroll")].map((s) => s.scrollLeft);
	old.replaceWith(fresh);
	fresh.querySelectorAll("details").forEach((d, i) => { d.open = Boolean(open[i]); });
	fresh.querySelectorAll(".scroll").forEach((s, i) => { s.scrollLeft = scrolled[i] || 0; });
	if (focused >= 0) fresh.querySelectorAll(focusable)[focused]?.focus({ preventScroll: true });
}

function start() {
	if (source || paused || document.hidden) return;
	source = new EventSource(address);
	source.addEventListener("part", (event) => {
		const part = JSON.parse(event.data);
		swap(part.id, part.html);
		document.documentElement.dataset.updated = String(Date.now());
	});
	source.onopen = show;
	source.onerror = show;
	show();
}

function stop() {
	if (source) source.close();
	source = null;
	show();
}

button.addEventListener("click", () => {
	paused = !paused;
	sessionStorage.setItem("sequencer-live", paused ? "off" : "on");
	if (paused) stop(); else start();
	show();
});
document.addEventListener("visibilitychange", () => { if (document.hidden) stop(); else start(); });
document.addEventListener("focusout", () => setTimeout(() => waiting.forEach((html, id) => swap(id, html)), 0));
document.addEventListener("toggle", (event) => {
	if (event.target.matches("details.action") && event.target.open) event.target.querySelector("input[name=reason]")?.focus();
	else waiting.forEach((html, id) => swap(id, html));
}, true);
document.addEventListener("keydown", (event) => {
	if (event.key !== "Escape") return;
	document.querySelectorAll("details.action[open]").forEach((d) => { d.open = false; d.querySelector("summary").focus(); });
});
addEventListener("pagehide", stop);
addEventListener("pageshow", start);
document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" }); // a phone's navigation is one long line
start();
show();
