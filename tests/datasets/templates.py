# SPDX-License-Identifier: Apache-2.0
"""Chat templates in the manner of well-known families, for tests."""

CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content']"
    " + '<|im_end|>' + '\\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LLAMA3 = """\
{% for message in messages %}
    {%- set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'
        + message['content'] | trim + '<|eot_id|>' %}
    {%- if loop.index0 == 0 %}
        {%- set content = bos_token + content %}
    {%- endif %}
    {{- content }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"""
# The system message goes before the *last* question, so no prefix renders like the whole.
MISTRAL = """\
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] + '\n\n' %}
    {%- set turns = messages[1:] %}
{%- else %}
    {%- set system = '' %}
    {%- set turns = messages %}
{%- endif %}
{{- bos_token }}
{%- for message in turns %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must alternate user/assistant') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {%- set last = loop.index0 >= turns | length - 2 %}
        {{- '[INST] ' + (system if last else '') + message['content'] + '[/INST]' }}
    {%- else %}
        {{- ' ' + message['content'] | trim + eos_token }}
    {%- endif %}
{%- endfor %}
"""
GENERATION = """\
{%- for message in messages %}
    {%- if message['role'] == 'assistant' %}
        {{- '<|im_start|>assistant\n' }}
        {%- generation %}
            {{- message['content'] + '<|im_end|>' }}
        {%- endgeneration %}
        {{- '\n' }}
    {%- else %}
        {{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""
# Only the generation tags help here: the number of messages comes first.
COUNTED_GENERATION = "{{ messages | length }} messages\n" + GENERATION
# Thoughts stay in the last answer only, and the last answer always has a place for them.
THINKING = """\
{%- for message in messages %}
    {%- set content = message['content'] %}
    {%- if message['role'] == 'assistant' %}
        {%- set answer = content.split('</think>')[-1].lstrip('\n') %}
        {%- set thought = (message['reasoning_content'] or '') %}
        {{- '<|im_start|>assistant\n' }}
        {%- if loop.last %}
            {{- '<think>\n' + thought + '\n</think>\n\n' }}
        {%- endif %}
        {{- answer + '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>' + message['role'] + '\n' + content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""
TOOLS = """\
{%- if tools %}
    {{- 'Tools:\n' }}
    {%- for tool in tools %}
        {{- tool | tojson }}{{ '\n' }}
    {%- endfor %}
    {{- tools | tojson(indent=2) }}
{%- endif %}
{%- set state = namespace(count=0) %}
{%- for message in messages %}
    {%- if message['role'] == 'skip' %}{% continue %}{% endif %}
    {%- set state.count = state.count + 1 %}
    {{- '<|im_start|>' + message['role'] + '\n' }}
    {%- if message['content'] is string %}
        {{- message['content'] }}
    {%- elif message['content'] is iterable %}
        {%- for part in message['content'] if part['type'] == 'text' %}
            {{- part['text'] }}
        {%- endfor %}
    {%- endif %}
    {%- for call in message['tool_calls'] or [] %}
        {{- call['function'] | tojson }}
    {%- endfor %}
    {{- '<|im_end|>\n' }}
    {%- if state.count > 6 %}{% break %}{% endif %}
{%- endfor %}
   {% if add_generation_prompt %}
<|im_start|>assistant
   {% endif %}
"""
DATED = "{{ strftime_now('%d %b %Y') }}\n" + CHATML
# The whole depends on every answer, in a way that no rendering of another answer shows.
SUMMED = "{{ messages | map(attribute='content') | join | length }}\n" + CHATML
TWICE = CHATML.replace("message['content']", "message['content'] + message['content']")
REVERSED = CHATML.replace("in messages", "in messages[::-1]")
# The mark that ends a message stands in front of the next one.
NEXT_MARK = (
    "{% for message in messages %}{% if not loop.first %}{{ '<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_end|>\n<|im_start|>assistant\n' }}{% endif %}"
)
# The header of the next message is the mark, as with GLM.
HEADER_MARK = (
    "{% for message in messages %}{{ '[INST]' if message.role == 'user' else '[/INST]' }}"
    "{{ '\n' + message.content }}{% endfor %}{% if add_generation_prompt %}[/INST]\n{% endif %}"
)
TEXT_MARK = (
    "{% for message in messages %}{{ '[' + message.role + ']\n' + message.content + '\n[end]\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '[assistant]\n' }}{% endif %}"
)
NEXT_TEXT_MARK = NEXT_MARK.replace("<|im_end|>", "\n##").replace("<|im_start|>", "")
NO_MARK = (
    "{% for message in messages %}{% if message.role == 'user' %}"
    "{{ '### Instruction:\n' + message.content + '\n\n### Response:\n' }}"
    "{% else %}{{ message.content + '\n\n' }}{% endif %}{% endfor %}"
)
TAGGED_CONTENT = COUNTED_GENERATION.replace("content'] + '<|im_end|>' }}", "content'] }}").replace(
    "{{- '\n' }}", "{{- '<|im_end|>\n' }}"
)
