// "/" goes to the search, the arrows from row to row. Nothing else is done here.
addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, [role=combobox]");
  if (event.key === "/" && !typing) {
    const field = document.querySelector("#filter-sensor");
    if (field) { event.preventDefault(); field.focus(); }
  }
  if ((event.key === "ArrowDown" || event.key === "ArrowUp") && !typing) {
    const rows = [...document.querySelectorAll("a.incident")];
    const next = rows.indexOf(document.activeElement) + (event.key === "ArrowDown" ? 1 : -1);
    if (rows.length && next >= 0 && next < rows.length) { event.preventDefault(); rows[next].focus(); }
  }
});
