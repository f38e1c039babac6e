#!/bin/sh
# Expected: a chat template is Jinja: the same template and the same tools give the same prompt in
# Jinja2 and in transformers.
# Happens: transformers replaces the filter tojson: Jinja2's own sorts keys and writes <, &, ' and
# accents as \u escapes, transformers' keeps the order and the text.
# Matters: servers and converters that render templates with plain Jinja2 show a tool-calling model
# other prompts than it was trained on.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
cd "$folder"
export OMP_NUM_THREADS=1 HF_HOME="$folder/cache" HF_HUB_OFFLINE=1
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check --no-compile \
    transformers==5.24.0 jinja2==3.1.6 tokenizers==0.23.3 huggingface_hub==2.4.0
venv/bin/python -I - <<'PYTHON'
import jinja2, transformers
from jinja2.sandbox import ImmutableSandboxedEnvironment
from transformers.utils.chat_template_utils import render_jinja_template

template = "{{ tools[0] | tojson }}"
tools = [{"type": "function", "function": {"name": "search", "description": "a < b & it's café"}}]
environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
plain = environment.from_string(template).render(tools=tools)
chat = render_jinja_template([[{"role": "user", "content": "hi"}]], tools=tools, chat_template=template)[0][0]
print("jinja2", jinja2.__version__, "transformers", transformers.__version__)
print("jinja2:      ", plain)
print("transformers:", chat)
assert plain.startswith('{"function"') and r"a \u003c b \u0026 it\u0027s caf\u00e9" in plain, "changed: jinja2"
assert chat.startswith('{"type"') and "a < b & it's café" in chat, "changed: transformers"
PYTHON
