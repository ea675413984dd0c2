"""The page's frame: where its parts stand, in HTML."""

PAGE = """
{% from macros import embed %}
{% extends base %}
{% block preamble %}
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; \
script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; \
img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' {{ sockets }}; \
base-uri 'none'; form-action 'none'">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width, initial-scale=1">
{% endblock %}
{% block postamble %}
<style>
  body { font: 14px/1.4 system-ui, "Helvetica Neue", Arial, sans-serif; color: #222;
    background: #f6f7f8; }
  header { padding: 9px 16px 8px; background: #fff; border-bottom: 1px solid #dde1e4; }
  h1 { font-size: 17px; margin: 0; display: inline; }
  header span { color: #666; font-size: 12.5px; margin-left: 10px; }
  main { display: grid; grid-template-columns: 372px 372px minmax(440px, 492px); gap: 12px;
    padding: 12px 16px; justify-content: center; align-items: start; }
  section { background: #fff; border: 1px solid #dde1e4; border-radius: 6px;
    padding: 9px 12px 10px; margin: 0 0 12px; overflow: hidden; }
  h2 { font-size: 13.5px; margin: 0 0 2px; }
  p { margin: 0 0 6px; color: #666; font-size: 12px; line-height: 1.35; }
  code { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: 11.5px; }
  @media (max-width: 1240px) { main { grid-template-columns: 372px minmax(372px, 492px); } }
</style>
{% endblock %}
{% block contents %}
<header><h1>{{ heading | e }}</h1><span>{{ about | e }}</span></header>
<main>
  <div>
    <section><h2>Class weights s</h2><p>{{ help.weights | e }}</p>
      {{ embed(roots.weights) }}</section>
    <section><h2>Latent z</h2><p>{{ help.latent | e }}</p>{{ embed(roots.latent) }}</section>
  </div>
  <div>
    <section><h2>Decoded {{ kind | e }}</h2><p>{{ help.picture | e }}</p>
      {{ embed(roots.picture) }}</section>
    <section><h2>Classify a file</h2><p>{{ help.upload | e }}</p>{{ embed(roots.upload) }}</section>
  </div>
  <div>
    <section><h2>Map of the data's z</h2><p>{{ help.map | e }}</p>{{ embed(roots.map) }}</section>
    <section>{{ embed(roots.near) }}</section>
  </div>
</main>
{% endblock %}
"""
