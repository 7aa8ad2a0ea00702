const { row, value, error } = await (await fetch('/api/board')).json();
document.querySelector('#board').textContent = error ?? `row ${row}, value ${value}`;
