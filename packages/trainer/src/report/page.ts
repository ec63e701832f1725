/** The page around charts and tables: one file, nothing loaded, readable in light and dark, on a phone and with a keyboard. */

/** Text that is markup already. */
export class Html {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

type Part = Html | string | number | null | readonly Part[];

/** A template whose parts are escaped, but for markup of ours. */
export function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Html {
  return new Html(strings.map((text, i) => (i === 0 ? text : render(parts[i - 1]!) + text)).join(''));
}

const escapes: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

function render(part: Part): string {
  if (part === null) return '';
  if (part instanceof Html) return part.text;
  if (typeof part === 'object') return part.map(render).join('');
  return String(part).replaceAll(/[&<>"']/g, (character) => escapes[character]!);
}

export const raw = (text: string): Html => new Html(text);

/**
 * A table that scrolls within itself where it is wider than the page.
 * @param rows the first cell of each names the row; numbers are aligned to the right
 */
export function table(caption: string, header: readonly Part[], rows: readonly (readonly Part[])[]): Html {
  return html`<div class="scroll" role="region" aria-label="${caption}" tabindex="0">
    <table>
      <caption>
        ${caption}
      </caption>
      <thead>
        <tr>
          ${header.map((cell) => html`<th scope="col">${cell}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${rows.map(
          ([first, ...cells]) =>
            html`<tr>
              <th scope="row">${first!}</th>
              ${cells.map((cell) => html`<td>${cell}</td>`)}
            </tr> `,
        )}
      </tbody>
    </table>
  </div>`;
}

/** A chart with its title, its legend, and its values for whoever does not see it. */
export function figure(
  title: string,
  svg: string,
  legend: readonly { readonly name: string; readonly color: string }[],
  values: Html | null,
): Html {
  return html`<figure>
    <figcaption>
      ${title}${
        legend.length > 1
          ? html`<span class="legend"
              >${legend.map(({ name, color }) => html`<span><i style="background:${color}"></i>${name}</span>`)}</span
            >`
          : null
      }
    </figcaption>
    ${raw(svg)}${
      values &&
      html`<details>
        <summary>Values</summary>
        ${values}
      </details>`
    }
  </figure>`;
}

/** @param sections in order, each with the id that its link goes to */
export function page(
  title: string,
  lead: Html,
  sections: readonly { readonly id: string; readonly title: string; readonly body: Html }[],
): string {
  return `<!doctype html>
${
  html`<html lang="en">
    <head>
      <meta charset="utf-8" />
      <meta name="viewport" content="width=device-width, initial-scale=1" />
      <meta name="color-scheme" content="light dark" />
      <meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'" />
      <title>${title}</title>
      <style>
        ${raw(style)}
      </style>
    </head>
    <body>
      <a class="skip" href="#${sections[0]?.id ?? 'top'}">Skip to the results</a>
      <header id="top">
        <h1>${title}</h1>
        ${lead}
        <nav aria-label="Sections">
          <ul>
            ${sections.map(({ id, title }) => html`<li><a href="#${id}">${title}</a></li>`)}
          </ul>
        </nav>
      </header>
      <main>
        ${sections.map(
          ({ id, title, body }) =>
            html`<section id="${id}" aria-labelledby="${id}-title">
              <h2 id="${id}-title">${title}</h2>
              ${body}
            </section> `,
        )}
      </main>
    </body>
  </html> `.text
}`;
}

const style = `
:root{color-scheme:light dark;--ground:#fff;--text:#1b1f24;--soft:#57606a;--line:#d5dae0;--card:#f6f8fa;--link:#0a58ca;
--series-1:#1f5fd0;--series-2:#b35900;--series-3:#1a7f4b;--series-4:#8a3fc4;--series-5:#c0263a;--series-6:#0b7285}
@media (prefers-color-scheme:dark){:root{--ground:#14171b;--text:#e6e9ed;--soft:#9aa4af;--line:#343b44;--card:#1c2127;--link:#79b0ff;
--series-1:#74a9ff;--series-2:#ffae57;--series-3:#5fd08f;--series-4:#cd9bff;--series-5:#ff8593;--series-6:#54cfe0}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:72rem;padding:1rem clamp(.75rem,3vw,2rem) 3rem;background:var(--ground);color:var(--text);font:1rem/1.5 system-ui,sans-serif}
h1{font-size:1.6rem;margin:.5rem 0;overflow-wrap:anywhere}h2{font-size:1.2rem;margin:2rem 0 .75rem}
p{margin:.5rem 0;max-width:70ch}.soft,figcaption .legend,caption{color:var(--soft)}
a{color:var(--link)}nav ul{display:flex;flex-wrap:wrap;gap:.25rem 1rem;list-style:none;padding:0;margin:.75rem 0}
.skip{position:absolute;left:-99rem}.skip:focus{position:static}
:focus-visible{outline:2px solid var(--link);outline-offset:2px}
.figures,.facts{display:grid;gap:1rem;grid-template-columns:repeat(auto-fill,minmax(min(100%,22rem),1fr))}
.facts{grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));margin:1rem 0}
.facts div{background:var(--card);border-radius:.5rem;padding:.6rem .8rem}
.facts dt{color:var(--soft);font-size:.85rem}.facts dd{margin:0;font-size:1.25rem;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
figure{margin:0;background:var(--card);border-radius:.5rem;padding:.75rem;min-width:0}
figcaption{font-weight:600;margin-bottom:.25rem}.legend{display:flex;flex-wrap:wrap;gap:0 1rem;font-weight:400;font-size:.85rem}
.legend i{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin-right:.35em}
svg{display:block;width:100%;height:auto;color:var(--text)}
details{margin-top:.5rem}summary{cursor:pointer;color:var(--soft);font-size:.9rem}
.scroll{overflow-x:auto;max-height:32rem;overflow-y:auto;margin:0 0 1rem}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
caption{text-align:left;padding:.25rem 0}
th,td{padding:.3rem .75rem .3rem 0;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
thead th{font-weight:600;white-space:nowrap}th:first-child{position:sticky;left:0;background:var(--ground)}figure th:first-child{background:var(--card)}tbody th{font-weight:400}
.best{font-weight:700}
@media print{.skip,nav,details{display:none}}
`;
