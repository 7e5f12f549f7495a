// Sorting and filtering of the leaderboard, curves on hover, galleries to browse. Everything can be read without it.
"use strict";
(() => {
  const all = (where, what) => [...where.querySelectorAll(what)];
  const make = (name, attributes = {}, ...children) => {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  };
  const data = (id) => {
    const node = document.getElementById(id);
    return node ? JSON.parse(node.textContent) : null;
  };

  // --- leaderboard -------------------------------------------------------------------------------------------------

  function board(table, form) {
    const heads = all(table, "thead th");
    const value = (row, place) => {
      const cell = row.children[place];
      const text = place ? cell.dataset.value : row.dataset.name;
      return text === "" ? null : place ? Number(text) : text;
    };
    const sort = (place, falling) => {
      for (const body of all(table, "tbody")) {
        const rows = all(body, "tr").map((row) => [value(row, place), row]);
        rows.sort(([a], [b]) => {
          if (a === null || b === null) return (a === null) - (b === null); // nothing comes last, whichever way
          const order = typeof a === "string" ? a.localeCompare(b) : a - b;
          return falling ? -order : order;
        });
        body.append(...rows.map(([, row]) => row));
      }
      heads.forEach((head, n) => {
        if (n === place) head.setAttribute("aria-sort", falling ? "descending" : "ascending");
        else head.removeAttribute("aria-sort");
      });
    };
    heads.forEach((head, place) => {
      const button = make("button", { type: "button" }, ...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const now = head.getAttribute("aria-sort");
        sort(place, now ? now === "ascending" : head.dataset.better === "high");
      });
    });
    const rows = all(table, "tbody:not(.references) tr");
    const filter = () => {
      const group = form.elements.group ? form.elements.group.value : "";
      const words = form.elements.find.value.toLowerCase().trim();
      let shown = 0;
      for (const row of rows) {
        const inGroup = !group || row.dataset.groups.split(" ").includes(group);
        row.hidden = !(inGroup && row.dataset.name.includes(words));
        shown += !row.hidden;
      }
      form.querySelector(".count").textContent = shown < rows.length ? `${shown} of ${rows.length} methods` : "";
      for (const kind of ["task", "more"]) {
        const box = form.elements[kind];
        table.classList.toggle(`without-${kind}`, Boolean(box) && !box.checked);
      }
    };
    form.addEventListener("input", filter);
    form.addEventListener("change", filter);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.hidden = false;
    filter();
  }

  // --- curves ------------------------------------------------------------------------------------------------------

  const SVG = "http://www.w3.org/2000/svg";
  const draw = (name, attributes, text) => {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const ticks = (low, high, most) => {
    const rough = (high - low) / most || 1;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
    const found = [];
    for (let n = Math.ceil(low / step); n * step <= high; n++) found.push(n * step);
    return found;
  };
  const number = (value, digits) => value.toLocaleString("en", { maximumFractionDigits: digits });

  function curves(place, methods) {
    const chart = place.querySelector(".chart"), readout = place.querySelector(".readout");
    const legend = place.querySelector(".legend"), form = place.querySelector("form");
    let chosen = -1, at = 0, spots = [], parts = [], dot = null, x = "step";
    form.hidden = !methods.every((m) => m.seconds.every((v) => v !== null)); // records can be kept without times

    // grey are all but the chosen one; while none is chosen, those that have no colour of their own among many
    const light = () => {
      methods.forEach((m, n) => {
        const faint = chosen < 0 ? !m.prominent : n !== chosen;
        parts[n].all.forEach((part) => part.classList.toggle("faint", faint));
        parts[n].seeds.forEach((part) => part.setAttribute("visibility", n === chosen ? "visible" : "hidden"));
        parts[n].line.setAttribute("stroke-width", n === chosen ? 3 : 1.6);
        if (n === chosen) parts[n].all.forEach((part) => dot.before(part));
      });
    };

    const show = (curve, point) => {
      chosen = curve;
      at = point;
      light();
      all(legend, "button").forEach((button, n) => button.setAttribute("aria-pressed", n === chosen));
      if (chosen < 0) return;
      const one = methods[chosen], [left, top] = spots[chosen][at];
      dot.setAttribute("cx", left);
      dot.setAttribute("cy", top);
      dot.setAttribute("visibility", "visible");
      const range = one.high[at] > one.low[at] ? ` (seeds ${number(one.low[at], 1)} to ${number(one.high[at], 1)})` : "";
      const after = one.seconds[at] === null ? "" : `, after ${number(one.seconds[at], 1)} s`;
      readout.textContent = `${one.method}: ${one.mean[at].toFixed(1)} %${range} at step ${number(one.step[at], 0)}${after}`;
    };

    const paint = () => {
      const width = Math.max(280, chart.clientWidth - 16), height = Math.round(Math.min(420, Math.max(230, width * 0.45)));
      const edge = { left: 58, right: 12, top: 10, bottom: 38 };
      const xs = methods.flatMap((m) => m[x]), ys = methods.flatMap((m) => [...m.low, ...m.high]);
      const right = Math.max(...xs), room = (Math.max(...ys) - Math.min(...ys)) * 0.06 || 1;
      const low = Math.min(...ys) - room, high = Math.max(...ys) + room;
      const toX = (v) => edge.left + (v / right) * (width - edge.left - edge.right);
      const toY = (v) => edge.top + ((high - v) / (high - low)) * (height - edge.top - edge.bottom);
      const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label":
        `Mean validation accuracy of ${methods.length} methods while training; the buttons below read out each curve.` });
      for (const v of ticks(low, high, 6)) {
        svg.append(draw("line", { x1: edge.left, x2: width - edge.right, y1: toY(v), y2: toY(v), class: "grid" }),
          draw("text", { x: edge.left - 6, y: toY(v) + 4, "text-anchor": "end" }, number(v, 2)));
      }
      for (const v of ticks(0, right, width / 90)) {
        svg.append(draw("text", { x: toX(v), y: height - edge.bottom + 16, "text-anchor": "middle" }, number(v, 2)));
      }
      svg.append(draw("text", { x: (width + edge.left) / 2, y: height - 5, "text-anchor": "middle" },
        x === "step" ? "training step" : "seconds of training"),
      draw("text", { x: 12, y: (edge.top + height - edge.bottom) / 2, "text-anchor": "middle", class: "title",
        transform: `rotate(-90 12 ${(edge.top + height - edge.bottom) / 2})` }, "validation accuracy, %"));
      spots = methods.map((m) => m[x].map((v, n) => [toX(v), toY(m.mean[n])]));
      parts = methods.map((m, n) => {
        const path = (values) => m[x].map((v, at) => `${toX(v)},${toY(values[at])}`);
        const style = `--c: ${m.colour}`;
        const line = draw("polyline", { points: path(m.mean).join(" "), class: "curve", style, "stroke-width": 1.6,
          "stroke-linejoin": "round", "stroke-dasharray": m.dash });
        const seeds = m.seeds.map((one) => draw("polyline", { points: path(one).join(" "), class: "seed", style }));
        const band = m.seeds.length ? [draw("polygon", { class: "band", style,
          points: [...path(m.high), ...path(m.low).reverse()].join(" ") })] : [];
        return { line, seeds, all: [...band, ...seeds, line] };
      });
      dot = draw("circle", { r: 5, "stroke-width": 2, visibility: "hidden" });
      const order = methods.map((m, n) => n).sort((a, b) => methods[a].prominent - methods[b].prominent || b - a);
      svg.append(...order.flatMap((n) => parts[n].all), dot);
      const near = (event) => {
        const box = svg.getBoundingClientRect(), scale = width / box.width;
        const px = (event.clientX - box.left) * scale, py = (event.clientY - box.top) * scale;
        let best = [Infinity, -1, 0];
        spots.forEach((points, curve) => points.forEach(([a, b], point) => {
          const far = Math.hypot(a - px, b - py);
          if (far < best[0]) best = [far, curve, point];
          const next = points[point + 1];
          if (!next) return; // between two points the nearer one is read out
          const t = ((px - a) * (next[0] - a) + (py - b) * (next[1] - b)) / ((next[0] - a) ** 2 + (next[1] - b) ** 2);
          const off = t > 0 && t < 1 ? Math.hypot(a + t * (next[0] - a) - px, b + t * (next[1] - b) - py) : Infinity;
          if (off < best[0]) best = [off, curve, t < 0.5 ? point : point + 1];
        }));
        if (best[0] < 60) show(best[1], best[2]);
      };
      svg.addEventListener("pointermove", near);
      svg.addEventListener("pointerdown", near);
      chart.replaceChildren(svg);
      if (chosen >= 0) show(chosen, at);
      else light();
    };

    methods.forEach((m, n) => {
      const sample = draw("svg", { width: 22, height: 12, "aria-hidden": "true" });
      sample.append(draw("line", { x1: 1, x2: 21, y1: 6, y2: 6, style: `--c: ${m.colour}`, "stroke-width": 2.5,
        "stroke-dasharray": m.dash }));
      const button = make("button", { type: "button", "aria-pressed": "false" }, sample, m.method);
      const end = m.mean.length - 1;
      for (const kind of ["focus", "click", "pointerenter"]) button.addEventListener(kind, () => chosen === n || show(n, end));
      button.addEventListener("keydown", (event) => {
        const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!by) return;
        event.preventDefault();
        show(n, Math.min(end, Math.max(0, at + by)));
      });
      legend.append(button);
    });
    form.addEventListener("input", () => {
      x = form.elements.x.value;
      paint();
    });
    place.hidden = false;
    paint();
    let last = chart.clientWidth;
    new ResizeObserver(() => {
      if (chart.clientWidth !== last) {
        last = chart.clientWidth;
        paint();
      }
    }).observe(chart);
  }

  // --- galleries ---------------------------------------------------------------------------------------------------

  const FEW = 5; // methods shown from the start

  function gallery(place, given) {
    const form = place.querySelector("form"), picker = place.querySelector(".picker"), shown = place.querySelector(".shown");
    const select = form.elements.task, boxes = place.querySelector(".methods div");
    given.tasks.forEach((task, n) => select.append(make("option", { value: n }, task)));
    given.methods.forEach((method, n) => {
      const box = make("input", { type: "checkbox", name: "method", value: n, ...(n < FEW ? { checked: "" } : {}) });
      boxes.append(make("label", {}, box, ` ${method}`));
    });
    let query = null;
    const picture = (image, alt) => {
      const [width, height] = given.sizes[image];
      return make("img", { src: `${given.base}${image}.jpg`, width, height, alt, loading: "lazy", decoding: "async" });
    };
    const label = (image) => given.labels[query.task][image];
    const methods = () => all(boxes, "input:checked").map((box) => Number(box.value));

    const show = () => {
      const task = given.tasks[query.task];
      all(picker, "button").forEach((button) => button.setAttribute("aria-pressed", given.queries[button.value] === query));
      const asked = make("div", { class: "asked" }, picture(query.image, `Query, test image ${query.image}`),
        make("div", {}, make("strong", {}, "Query"), make("br"), `${task}: ${label(query.image)}`,
          make("span", { class: "file" }, given.files[query.image])));
      const lists = make("div");
      for (const n of methods()) {
        const near = query.near[n], right = near.filter((code) => code % 2).length;
        const p1 = given.precision[query.task][n];
        const list = make("ol");
        near.forEach((code, place) => {
          const image = code >> 1, fits = code % 2 === 1;
          const alt = `Neighbour ${place + 1}: test image ${image}`;
          list.append(make("li", fits ? {} : { class: "wrong" }, picture(image, alt),
            make("b", {}, fits ? "✓" : "✗"), make("span", { class: "vh" }, fits ? " right: " : " wrong: "), ` ${label(image)}`,
            make("span", { class: "file" }, given.files[image])));
        });
        lists.append(make("div", { class: "near" },
          make("h4", {}, given.methods[n], make("span", {}, ` · ${right} of ${near.length} right${p1 === null ? "" : ` · P@1 ${number(100 * p1, 1)} %`}`),
            ...(given.chance[query.task][n] ? [make("span", { class: "chance" }, " · near chance under this task")] : [])), list));
      }
      if (!lists.children.length) lists.append(make("p", {}, "Choose a method."));
      shown.replaceChildren(make("div", { class: "query" }, asked, lists));
    };
    const pick = () => {
      const task = Number(select.value);
      picker.replaceChildren();
      given.queries.forEach((one, n) => {
        if (one.task !== task) return;
        const button = make("button", { type: "button", value: n, "aria-pressed": "false" }, picture(one.image, ""),
          one.why, make("span", { class: "vh" }, `, test image ${one.image}`));
        button.addEventListener("click", () => {
          query = one;
          show();
        });
        picker.append(button);
      });
      query = given.queries.find((one) => one.task === task) || null;
      if (query) show();
      else shown.replaceChildren(make("p", {}, "This task has no query: no label is carried by two test images."));
    };
    select.addEventListener("change", pick);
    boxes.addEventListener("change", () => query && show());
    form.addEventListener("submit", (event) => event.preventDefault());
    place.hidden = false;
    pick();
  }

  // figures below each other where one is higher than its neighbours: no figure stands alone beside an empty screen
  function packed(grid) {
    const line = 4, gap = 24, figures = [...grid.children].filter((one) => one.localName === "figure");
    const pack = () => {
      const columns = getComputedStyle(grid).gridTemplateColumns.split(" ").length;
      grid.style.rowGap = columns > 1 ? "0" : "";
      grid.style.gridAutoRows = columns > 1 ? `${line}px` : "";
      for (const one of figures) {
        const high = one.getBoundingClientRect().height;
        one.style.gridRow = columns > 1 && high ? `span ${Math.ceil((high + gap) / line)}` : "";
      }
    };
    const observer = new ResizeObserver(pack);
    for (const one of [grid, ...figures]) observer.observe(one);
    pack();
  }

  // on a phone the three answers come first, each with what else there is to say folded below it
  if (window.matchMedia("(max-width: 40rem)").matches) all(document, ".answer details").forEach((one) => { one.open = false; });
  for (const place of all(document, ".gallery")) gallery(place, data(place.dataset.of));
  for (const table of all(document, "#leaderboard .board")) board(table, document.querySelector("#leaderboard form"));
  for (const place of all(document, ".curves")) curves(place, data(place.dataset.of));
  for (const grid of all(document, ".figures")) packed(grid);
})();
