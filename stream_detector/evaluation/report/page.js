"use strict";
// Draws each sensor's plot when it comes near the screen, zooms to an incident that was chosen in the table,
// sorts the table, and follows the reader's light or dark setting.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const lines = {
    light: ["#0072B2", "#B87400", "#008060", "#B8588F", "#3390C4", "#C24E00", "#6E6E6E", "#7A1F5C"],
    dark: ["#56B4E9", "#E69F00", "#2BC79A", "#E6A0C8", "#9DB2FF", "#FF8A4C", "#B8B8B8", "#F0E442"],
  };
  const theme = () => dark.matches
    ? { channels: lines.dark, score: "#e6e9ee", threshold: "#ff7f7f", ink: "#c9d1db", grid: "#303945", card: "#1b2129" }
    : { channels: lines.light, score: "#1c2330", threshold: "#c0392b", ink: "#3c4654", grid: "#e3e7ed", card: "#ffffff" };
  const config = {
    displaylogo: false, responsive: true, scrollZoom: false,
    // The readings stay on this machine: no button may send them to a chart service.
    plotlyServerURL: "", showSendToCloud: false, showEditInChartStudio: false,
    modeBarButtonsToRemove: ["sendChartToCloud", "sendDataToCloud", "select2d", "lasso2d", "autoScale2d"],
  };
  const figures = new Map(); // plot element -> figure that is drawn in it

  const paint = (figure) => {
    const colours = theme();
    for (const trace of figure.data) {
      const ink = trace.meta.ink;
      const colour = typeof ink === "number" ? colours.channels[ink % colours.channels.length] : colours[ink];
      trace.line.color = trace.marker.color = colour;
    }
    const layout = figure.layout;
    layout.paper_bgcolor = layout.plot_bgcolor = "rgba(0,0,0,0)";
    layout.font = { color: colours.ink, family: "system-ui, sans-serif", size: 12 };
    layout.hoverlabel = { bgcolor: colours.card, bordercolor: colours.grid, font: { color: colours.ink } };
    layout.modebar = { bgcolor: "rgba(0,0,0,0)", color: colours.grid, activecolor: colours.ink };
    for (const key of Object.keys(layout)) {
      if (/^[xy]axis\d*$/.test(key)) Object.assign(layout[key], { gridcolor: colours.grid, linecolor: colours.grid });
    }
    layout.xaxis.spikecolor = colours.ink;
    // A finger that scrolls the page must not zoom the plot; the buttons of the plot still do.
    if (matchMedia("(pointer: coarse)").matches) layout.dragmode = false;
    return figure;
  };

  const showScale = (plot) => {
    const figure = figures.get(plot);
    const button = plot.parentElement.querySelector('[data-do="log"]');
    button.setAttribute("aria-pressed", String(figure.layout[figure.score_axis].type === "log"));
  };

  const draw = (plot) => {
    if (figures.has(plot)) return;
    const figure = paint(JSON.parse(plot.parentElement.querySelector("script").textContent));
    figure.whole = [...(figure.layout.xaxis.range || [])];
    figures.set(plot, figure);
    Plotly.newPlot(plot, figure.data, figure.layout, config);
    showScale(plot);
  };

  const zoom = (plot, range) => {
    const change = {};
    for (const key of Object.keys(figures.get(plot).layout)) {
      if (/^yaxis\d*$/.test(key)) change[`${key}.autorange`] = true;
    }
    if (range.length) change["xaxis.range"] = range;
    Plotly.relayout(plot, change);
  };

  const plots = [...document.querySelectorAll(".plot")];
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      watcher.unobserve(entry.target);
      draw(entry.target);
    }
  }, { rootMargin: "800px" });
  plots.forEach((plot) => watcher.observe(plot));

  dark.addEventListener("change", () => {
    for (const [plot, figure] of figures) {
      paint(figure);
      Plotly.react(plot, figure.data, figure.layout, config);
    }
  });

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-from]");
    if (link) {
      const plot = document.querySelector(`${link.getAttribute("href")} .plot`);
      draw(plot);
      const whole = figures.get(plot).whole;
      const from = Number(link.dataset.from);
      const until = link.dataset.until ? Number(link.dataset.until) : Math.max(from, whole[1] ?? from);
      // At least a hundredth of the span, so that an incident of one reading is seen among its neighbours.
      const margin = Math.max(until - from, ((whole[1] ?? from) - (whole[0] ?? from)) / 200, 1);
      zoom(plot, [from - margin, until + margin]);
    }
    const button = event.target.closest("[data-do]");
    if (!button) return;
    const plot = button.closest(".sensor").querySelector(".plot");
    draw(plot);
    const figure = figures.get(plot);
    if (button.dataset.do === "all") return zoom(plot, figure.whole);
    const log = button.getAttribute("aria-pressed") !== "true";
    Plotly.relayout(plot, { [`${figure.score_axis}.type`]: log ? "log" : "linear", [`${figure.score_axis}.autorange`]: true });
    figure.layout[figure.score_axis].type = log ? "log" : "linear";
    showScale(plot);
  });

  document.querySelectorAll("#incidents th").forEach((head, column) => {
    head.addEventListener("click", () => {
      const rising = head.getAttribute("aria-sort") !== "ascending";
      const body = head.closest("table").tBodies[0];
      const key = (row) => row.cells[column].dataset.key;
      const numbers = column > 0 && column < 5;
      const order = (a, b) => (numbers ? Number(key(a)) - Number(key(b)) : key(a).localeCompare(key(b), undefined, { numeric: true }));
      const rows = [...body.rows].sort((a, b) => (rising ? order(a, b) : order(b, a)));
      head.parentElement.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", rising ? "ascending" : "descending");
      body.append(...rows);
    });
  });
})();
