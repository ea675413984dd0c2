"""The page that a report is: one file with all in it, which asks no network for anything.

Autoescape makes text of whatever a run holds.
"""

import base64
import hashlib

STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1c1c1c; --dim: #5a5a5a;
  --line: #d8d8d8; --soft: #f5f5f5; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16181b; --ink: #e8e8e8; --dim: #a9a9a9; --line: #3a3d42; --soft: #1f2226; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 62rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0.5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 0.6rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 0 0 0.3rem; }
p { margin: 0.4rem 0; }
.dim { color: var(--dim); }
.wide, .broad { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 0.9rem; }
caption { text-align: left; color: var(--dim); padding: 0.3rem 0; }
th, td { text-align: left; vertical-align: top; padding: 0.25rem 0.7rem 0.25rem 0;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
th { font-weight: 600; white-space: nowrap; }
td.value { min-width: 8rem; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
pre { background: var(--soft); padding: 0.7rem; overflow-x: auto; white-space: pre-wrap;
  overflow-wrap: anywhere; font-size: 0.9rem; }
figure { margin: 1rem 0 1.8rem; }
figcaption { color: var(--dim); font-size: 0.9rem; margin-top: 0.3rem; }
img { display: block; max-width: 100%; height: auto; background: #ffffff; padding: 0.3rem;
  border-radius: 4px; }
summary { cursor: pointer; padding: 0.3rem 0; }
nav a { margin-right: 1rem; }
a { color: inherit; }
@media (max-width: 45rem) { .broad img { max-width: none; width: 45rem; } }
@media print { details { display: none; } }
"""
_DIGEST = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; img-src data:; style-src 'sha256-{_DIGEST}'; base-uri 'none'; "
    "form-action 'none'"
)

TEMPLATE = """\
{%- macro rows(lines, kind) -%}
{% for key, value, about in lines %}
<tr><th scope="row">{{ key }}</th><td class="{{ kind }}">{{ value }}</td><td>{{ about }}</td></tr>
{%- endfor %}
{%- endmacro -%}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="gmmvae report">
<title>{{ name }}: report of a run</title>
<style>{{ style }}</style>
</head>
<body>
<header>
<h1>{{ name }}</h1>
<p>{{ summary }}</p>
<nav aria-label="Sections"><a href="#numbers">Numbers</a><a href="#pictures">Pictures</a>
<a href="#configuration">Configuration</a><a href="#environment">Environment</a></nav>
</header>
<main>
<section id="numbers">
<h2>Numbers on the test rows</h2>
{% if numbers %}
<div class="wide" tabindex="0" role="region" aria-label="table"><table>
<caption>As 'gmmvae evaluate' measures them; the weights are the {{ weights }} ones.</caption>
<tbody>{{ rows(numbers, "number") }}</tbody>
</table></div>
{% else %}
<p>None: {{ no_numbers }}</p>
{% endif %}
</section>
<section id="pictures">
<h2>Pictures</h2>
{% for shot in shots %}
<figure id="{{ shot.name }}">
<h3>{{ shot.name }}</h3>
<div class="{{ 'broad' if shot.is_broad else 'narrow' }}" {%- if shot.is_broad %} tabindex="0"
role="region" aria-label="{{ shot.name }}, to be scrolled"{% endif %}>
<img src="{{ shot.still }}" width="{{ shot.width }}" height="{{ shot.height }}"
alt="{{ shot.name }}: {{ shot.about }}"></div>
<figcaption>{{ shot.about }}</figcaption>
{%- if shot.moving %}
<details><summary>In motion</summary>
<img src="{{ shot.moving }}" alt="{{ shot.name }} in motion: {{ shot.about }}"></details>
{%- endif %}
{%- if shot.note %}<p class="dim">{{ shot.note }}</p>{% endif %}
</figure>
{% endfor %}
{%- if skipped %}
<h3>Not drawn</h3>
<ul>
{% for stem, reason in skipped %}<li><b>{{ stem }}</b>: {{ reason }}</li>
{% endfor %}</ul>
{%- endif %}
</section>
<section id="configuration">
<h2>Configuration</h2>
{% if changed %}
<div class="wide" tabindex="0" role="region" aria-label="table"><table>
<caption>What differs from the defaults of {{ preset }}</caption>
<thead><tr><th scope="col">key</th><th scope="col">value</th><th scope="col">default</th></tr>
</thead>
<tbody>{{ rows(changed, "value") }}</tbody>
</table></div>
{% else %}
<p>Nothing differs from the defaults of {{ preset }}.</p>
{% endif %}
<details><summary>All {{ same | length }} keys that are as by default</summary>
<div class="wide" tabindex="0" role="region" aria-label="table"><table>
<thead><tr><th scope="col">key</th><th scope="col">value</th><th scope="col">what it is</th></tr>
</thead>
<tbody>{{ rows(same, "value") }}</tbody>
</table></div></details>
</section>
<section id="environment">
<h2>Environment</h2>
{% if command %}<p>The command that made the run:</p>
<pre>{{ command }}</pre>{% endif %}
{% if environment %}
<div class="wide" tabindex="0" role="region" aria-label="table"><table><tbody>
{% for key, value in environment %}
<tr><th scope="row">{{ key }}</th><td>{{ value }}</td></tr>
{%- endfor %}
</tbody></table></div>
{% else %}
<p>Not known: {{ no_environment }}</p>
{% endif %}
</section>
</main>
<footer><p class="dim">Made by pyro_gmmvae {{ version }}.</p></footer>
</body>
</html>
"""
