// Keeps a page fresh: when something happens, the page is fetched again and its live parts are replaced. No reload, no inline script.
"use strict";

(() => {
  const MOST_OFTEN = 700; // ms between two refreshes while much happens
  const ANYWAY = 15000; // ms: what only time changes
  const body = document.body;
  const connection = document.getElementById("connection");
  let timer = null;
  let last = 0;

  const say = (on) => {
    const text = on ? body.dataset.live : body.dataset.stale;
    connection.className = on ? "on" : "off";
    if (connection.textContent !== text) connection.textContent = text;
  };

  const refresh = async () => {
    timer = null;
    last = Date.now();
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
    if (!answer.ok || answer.redirected) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const old of document.querySelectorAll("[data-live]")) {
      const found = fresh.getElementById(old.id);
      // Nobody's typing is thrown away, and nobody's place on the page.
      if (!found || old.contains(document.activeElement) || old.innerHTML === found.innerHTML) continue;
      old.replaceChildren(...found.childNodes);
    }
  };

  const soon = () => {
    if (timer === null && !document.hidden) {
      timer = setTimeout(() => refresh().catch(() => say(false)), Math.max(50, last + MOST_OFTEN - Date.now()));
    }
  };

  if (document.querySelector("[data-live]")) {
    setInterval(soon, ANYWAY);
    document.addEventListener("visibilitychange", soon);
    if (body.dataset.events) {
      const source = new EventSource(body.dataset.events);
      source.addEventListener("open", () => { say(true); soon(); });
      source.addEventListener("error", () => say(false));
      source.addEventListener("change", soon);
    }
  }

  const input = document.getElementById("input");
  if (input) {
    const over = (on) => (event) => { event.preventDefault(); input.classList.toggle("over", on); };
    input.addEventListener("dragover", over(true));
    input.addEventListener("dragleave", over(false));
    input.addEventListener("drop", (event) => {
      over(false)(event);
      if (event.dataTransfer.files.length) {
        document.getElementById("file").files = event.dataTransfer.files;
        input.requestSubmit(input.querySelector("button[value=plan]"));
      }
    });
  }
})();
