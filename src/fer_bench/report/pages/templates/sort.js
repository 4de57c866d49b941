// Headings of sortable tables become buttons: numbers best first, text from A to Z, then reversed.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const key = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value ?? cell.textContent.trim();
  };
  const compare = (first, second, numeric) =>
    numeric ? first - second : first.localeCompare(second, "en", { numeric: true });
  heads.forEach((head, column) => {
    const numeric = head.classList.contains("number");
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const start = head.dataset.first ?? (numeric ? "descending" : "ascending");
      const other = start === "ascending" ? "descending" : "ascending";
      const order = before === start ? other : start;
      const sign = order === "ascending" ? 1 : -1;
      const rows = [...body.rows].sort((one, two) => {
        const [first, second] = [key(one, column), key(two, column)];
        // What is not known stays at the end in both directions.
        if (first === "" || second === "") return (first === "") - (second === "");
        return sign * compare(first, second, numeric);
      });
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      body.append(...rows);
    });
  });
}
// On paper nothing can be unfolded.
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
});
