"use strict";
(() => {
  const NARROW = 640;

  /* Row names take a third of a narrow screen at most. */
  const wrapped = (text, most) => {
    const lines = [""];
    for (const word of text.split(" ")) {
      const last = lines[lines.length - 1];
      if (last && last.length + word.length + 1 > most) lines.push(word);
      else lines[lines.length - 1] = last ? `${last} ${word}` : word;
    }
    return lines.join("<br>");
  };

  const draw = (chart) => {
    const box = chart.querySelector(".plot");
    const views = JSON.parse(chart.querySelector("script").textContent);
    const menu = chart.querySelector("select");
    const scale = chart.querySelector(".scale");
    let linear = false;

    const show = () => {
      const view = views[menu ? menu.selectedIndex : 0];
      const narrow = box.clientWidth < NARROW;
      const layout = structuredClone(view.layout);
      layout.height = view.height + (narrow ? 0 : view.legend);
      if (narrow) {
        layout.margin = { ...layout.margin, l: 46, r: 10 };
        layout.font.size = 11;
        layout.legend.font.size = 10;
        layout.modebar = undefined;
        const legends = view.data.filter((trace) => trace.showlegend !== false).length;
        if (!view.rows.length) layout.height = view.height + 16 * legends - 60;
      }
      if (view.rows.length) {
        const most = narrow ? 20 : 60;
        layout.yaxis.ticktext = view.rows.map((row) => wrapped(row, most));
        const lines = Math.max(...layout.yaxis.ticktext.map((text) => text.split("<br>").length));
        layout.height += view.rows.length * 14 * (lines - 1);
      }
      for (const axis of linear ? view.log : []) {
        layout[axis] = { ...layout[axis], type: "linear", range: undefined, tickvals: undefined, ticktext: undefined, rangemode: "tozero",
          separatethousands: true, exponentformat: "none" };
      }
      scale.hidden = !view.log.length;
      scale.textContent = linear ? "logarithmic axis" : "linear axis";
      const data = structuredClone(view.data);
      if (narrow) for (const trace of data) if (trace.mode.includes("text")) trace.mode = trace.mode.replace("+text", "");
      return Plotly.react(box, data, layout,
        { responsive: true, displaylogo: false, displayModeBar: narrow ? false : "hover",
          modeBarButtons: [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d", "toImage"]] });
    };

    if (menu) menu.addEventListener("change", show);
    scale.addEventListener("click", () => { linear = !linear; show(); });
    let wide = box.clientWidth >= NARROW;
    window.addEventListener("resize", () => {
      if ((box.clientWidth >= NARROW) !== wide) { wide = !wide; show(); }
    });
    return show();
  };

  const charts = [...document.querySelectorAll("figure.chart")];
  const next = () => {
    const chart = charts.shift();
    if (chart) draw(chart).then(() => setTimeout(next, 0));
    else document.documentElement.dataset.drawn = "yes";
  };
  next();
})();
