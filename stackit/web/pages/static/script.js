// Pages work without this. With it they stay up to date, and forms are sent without leaving the page.
"use strict";
(() => {
  const body = document.body;
  const skew = Date.now() / 1000 - Number(body.dataset.now);

  // -- times ----------------------------------------------------------------------
  const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  function ago(at) {
    const distance = Date.now() / 1000 - skew - Date.parse(at) / 1000;
    for (const [unit, seconds] of UNITS) {
      const count = Math.floor(Math.abs(distance) / seconds);
      if (count) {
        const text = `${count} ${unit}${count === 1 ? "" : "s"}`;
        return distance > 0 ? `${text} ago` : `in ${text}`;
      }
    }
    return "just now";
  }
  function tick() {
    for (const each of document.querySelectorAll("time[data-ago]")) {
      const text = ago(each.dateTime);
      if (each.textContent !== text) each.textContent = text;
    }
  }

  // -- what is shown becomes what the server says now, node by node: focus and scrolling stay ------------
  function morph(old, fresh) {
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
      old.replaceWith(document.importNode(fresh, true));
      return;
    }
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
      return;
    }
    for (const { name } of [...old.attributes]) {
      const opened = name === "open" && old.nodeName === "DETAILS";
      if (!fresh.hasAttribute(name) && !opened) old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    const had = [...old.childNodes], has = [...fresh.childNodes];
    has.forEach((each, place) => {
      if (place < had.length) morph(had[place], each);
      else old.append(document.importNode(each, true));
    });
    had.slice(has.length).forEach((each) => each.remove());
  }
  function swap(old, fresh) {
    const rows = (element) => new Set([...element.querySelectorAll("[data-key]")].map((each) => each.dataset.key));
    const known = rows(old);
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    const target = focused && focused.getAttribute("href");
    morph(old, fresh);
    for (const each of old.querySelectorAll("[data-key]")) {
      each.classList.toggle("fresh", known.size > 0 && !known.has(each.dataset.key));
    }
    if (target && document.activeElement.getAttribute("href") !== target) {
      const same = [...old.querySelectorAll("a[href]")].find((each) => each.getAttribute("href") === target);
      if (same) same.focus({ preventScroll: true });
    }
  }
  function swapLive(page) {
    for (const old of document.querySelectorAll("[data-live]")) {
      const fresh = page.querySelector(`[data-live="${CSS.escape(old.dataset.live)}"]`);
      if (fresh) swap(old, fresh);
    }
    tick();
  }
  function parse(html) {
    return new DOMParser().parseFromString(html, "text/html");
  }

  // -- live ---------------------------------------------------------------------------
  const PAUSE = 600, MOMENT = 120, POLL = 10000;
  let timer = 0, last = 0, loading = false, again = false;
  async function refresh() {
    timer = 0;
    if (loading || document.hidden) { again = true; return; }
    loading = true;
    again = false;
    last = performance.now();
    try {
      const response = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "manual" });
      if (response.ok && (response.headers.get("content-type") || "").startsWith("text/html")) {
        swapLive(parse(await response.text()));
      }
    } catch { /* the server restarts: the stream says when it is back */ }
    loading = false;
    if (again) soon();
  }
  function soon() {
    if (!timer) timer = setTimeout(refresh, Math.max(MOMENT, PAUSE - (performance.now() - last)));
  }
  const link = document.querySelector("[data-link]");
  function tell(state) {
    if (!link) return;
    link.dataset.link = state;
    link.textContent = state === "live" ? "live" : "reconnecting";
  }
  function listen() {
    const source = new EventSource(body.dataset.events);
    source.onopen = () => { tell("live"); soon(); };
    source.onerror = () => {
      tell("lost");
      if (source.readyState === EventSource.CLOSED) setTimeout(listen, POLL);
      soon();
    };
    source.onmessage = soon;
    for (const name of [...body.dataset.occurrences.split(" "), "reset"]) source.addEventListener(name, soon);
    addEventListener("pagehide", () => source.close(), { once: true });
  }
  const live = [...document.querySelectorAll("[data-live]")].some((each) => each.dataset.live !== "lead");
  if (live) {
    listen();
    document.addEventListener("visibilitychange", () => { if (!document.hidden && again) soon(); });
    addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
  }
  setInterval(tick, 5000);
  tick();

  // -- forms ----------------------------------------------------------------------------
  function notice(text, tone) {
    const region = document.getElementById("notice");
    region.className = `notice notice-${tone}`;
    region.textContent = text;
  }
  async function send(form, button) {
    if (button) button.setAttribute("aria-busy", "true");
    try {
      const response = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
      const text = await response.text();
      if (!(response.headers.get("content-type") || "").startsWith("text/html")) {
        let reason = `It failed: ${response.status}`;
        try { reason = JSON.parse(text).error || reason; } catch { /* no JSON: the status has to do */ }
        notice(reason, "bad");
        return;
      }
      const page = parse(text);
      const path = new URL(response.url).pathname;
      if (path === location.pathname) swapLive(page);
      else {
        document.title = page.title;
        history.pushState(null, "", path);
        morph(document.querySelector("main"), page.querySelector("main"));
        morph(document.querySelector("nav.menu"), page.querySelector("nav.menu"));
        document.getElementById("main").focus();
      }
      const said = page.getElementById("notice");
      notice(said.textContent, said.classList.contains("notice-bad") ? "bad" : "good");
    } catch {
      notice("stackit cannot be reached.", "bad");
    } finally {
      if (button) button.removeAttribute("aria-busy");
    }
  }
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.dataset.confirm && !confirm(form.dataset.confirm)) { event.preventDefault(); return; }
    if (form.method === "get") {
      for (const each of form.elements) if (!each.value && each.name) each.disabled = true;
      setTimeout(() => { for (const each of form.elements) each.disabled = false; });
    } else if (form.classList.contains("action") && !form.action.endsWith("/logout")) {
      event.preventDefault();
      if (event.submitter && event.submitter.getAttribute("aria-busy") === "true") return;
      send(form, event.submitter);
    }
  });
  addEventListener("popstate", () => location.reload());
  const shown = new URL(location.href);
  if (shown.searchParams.has("notice")) {
    shown.searchParams.delete("notice");
    history.replaceState(null, "", shown);
  }
})();
