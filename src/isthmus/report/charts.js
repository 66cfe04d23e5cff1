// Draws every chart in the colours of the page, and again when those change.
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const touch = matchMedia("(pointer: coarse)").matches;
  const config = { responsive: true, displayModeBar: false, scrollZoom: false };

  // "@name" under a key that ends in "color" or "colorscale" is the page's variable --name.
  const themed = (value, style, isColor) => {
    if (typeof value === "string") {
      return isColor && value[0] === "@" ? style.getPropertyValue("--" + value.slice(1)).trim() : value;
    }
    if (Array.isArray(value)) return value.map((item) => themed(item, style, isColor));
    if (value === null || typeof value !== "object") return value;
    const answer = {};
    for (const [key, item] of Object.entries(value)) {
      answer[key] = themed(item, style, /color(scale)?$/.test(key));
    }
    return answer;
  };

  const draw = () => {
    const style = getComputedStyle(document.documentElement);
    for (const [id, figure] of Object.entries(charts)) {
      const { data, layout } = themed(figure, style, false);
      if (touch) layout.dragmode = false; // a finger scrolls the page
      Plotly.react(id, data, layout, config);
    }
  };

  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
