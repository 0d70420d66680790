"use strict";
(() => {
  const source = document.getElementById("data");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const $ = (id) => document.getElementById(id);
  const PAGE = 50;
  const show = (v) => (Number.isInteger(v) ? String(v) : String(Number(v.toPrecision(6)))).replace("-", "\u2212");
  const percent = (v) => `${Number((100 * v).toPrecision(3))}\u00a0%`;
  const group = (m) => (m ? "member" : "non-member");
  const label = (i) => data.classes[data.y[i]];
  const byText = new Intl.Collator("en", { numeric: true }).compare;
  const columns = [
    { name: "Candidate", value: (i) => data.ids[i] },
    { name: "Group", value: (i) => group(data.member[i]), css: (i) => (data.member[i] ? "is-member" : "") },
    { name: "Label", value: label },
    { name: "Score", number: true, value: (i, a) => a.score[i] },
    { name: "FPR needed", number: true, percent: true, value: (i, a) => a.fpr[i] },
    { name: "Called", value: (i, a) => group(a.decided[i]) },
    { name: "Status", value: (i, a) => data.statuses[a.status[i]] },
    { name: "Labels", number: true, value: (i, a) => a.queries[i] },
  ];
  const state = { sort: 4, down: false, page: 0 };
  const attack = () => data.attacks[Number($("f-attack").value)];

  data.statuses.forEach((name, i) => $("f-status").append(new Option(name, String(i))));

  const head = document.querySelector("#table thead tr");
  columns.forEach((column, c) => {
    const th = document.createElement("th");
    th.scope = "col";
    if (column.number) th.className = "num";
    const button = document.createElement("button");
    button.type = "button";
    button.addEventListener("click", () => {
      state.down = state.sort === c ? !state.down : Boolean(column.number) && c !== 4;
      state.sort = c;
      state.page = 0;
      draw();
    });
    th.append(button);
    head.append(th);
  });

  const chosen = () => {
    const a = attack();
    const [wanted, decided, status] = ["f-group", "f-decided", "f-status"].map((id) => $(id).value);
    const text = $("f-text").value.trim().toLowerCase();
    const rows = [];
    for (let i = 0; i < data.ids.length; i++) {
      if (wanted !== "" && data.member[i] !== Number(wanted)) continue;
      if (decided !== "" && a.decided[i] !== Number(decided)) continue;
      if (status !== "" && a.status[i] !== Number(status)) continue;
      if (text && !data.ids[i].toLowerCase().includes(text) && !label(i).toLowerCase().includes(text)) continue;
      rows.push(i);
    }
    const { value, number } = columns[state.sort];
    const keys = new Map(rows.map((i) => [i, value(i, a)]));
    const compare = number ? (p, q) => p - q : byText;
    const sign = state.down ? -1 : 1;
    const ties = state.sort === 4 ? (i, j) => a.score[j] - a.score[i] : () => 0;
    return rows.sort((i, j) => sign * compare(keys.get(i), keys.get(j)) || ties(i, j) || i - j);
  };

  const draw = () => {
    const a = attack();
    const rows = chosen();
    const pages = Math.max(1, Math.ceil(rows.length / PAGE));
    state.page = Math.min(state.page, pages - 1);
    const from = state.page * PAGE;
    const part = rows.slice(from, from + PAGE);
    const body = document.createElement("tbody");
    for (const i of part) {
      const tr = document.createElement("tr");
      for (const column of columns) {
        const td = document.createElement("td");
        const value = column.value(i, a);
        td.textContent = column.percent ? percent(value) : column.number ? show(value) : value;
        if (column.number) td.className = "num";
        else td.title = value;
        if (column.css && column.css(i)) td.className = column.css(i);
        tr.append(td);
      }
      body.append(tr);
    }
    document.querySelector("#table tbody").replaceWith(body);
    [...head.children].forEach((th, c) => {
      const active = c === state.sort;
      if (active) th.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      else th.removeAttribute("aria-sort");
      th.firstChild.textContent = columns[c].name + (active ? (state.down ? " \u2193" : " \u2191") : "");
    });
    const total = data.ids.length.toLocaleString("en");
    const found = rows.length.toLocaleString("en");
    $("shown").textContent = rows.length === data.ids.length ? `${total} candidates` : `${found} of ${total} candidates`;
    $("page").textContent = rows.length ? `${from + 1}\u2013${from + part.length} of ${found}` : "nothing matches";
    $("previous").disabled = state.page === 0;
    $("next").disabled = state.page >= pages - 1;
  };

  const again = () => { state.page = 0; draw(); };
  for (const id of ["f-attack", "f-group", "f-decided", "f-status"]) $(id).addEventListener("change", again);
  $("f-text").addEventListener("input", again);
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  $("previous").addEventListener("click", () => { state.page -= 1; draw(); });
  $("next").addEventListener("click", () => { state.page += 1; draw(); });
  window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => { d.open = true; }));
  draw();
})();
