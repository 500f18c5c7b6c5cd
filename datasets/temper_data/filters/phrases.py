# SPDX-License-Identifier: Apache-2.0
"""Phrases by which answers refuse, and by which questions ask for something, in several languages.

All in lower case, with straight apostrophes. One language a line: English, German, Spanish, French,
Portuguese, Italian, Russian, Arabic, Korean, Japanese, Chinese (both scripts).
"""

import re

REFUSALS = (
    "as an ai language model", "as an ai model", "as an ai assistant", "as an ai, i",
    "as a large language model", "i'm just an ai", "i am just an ai", "i'm sorry, but i can't",
    "i'm sorry, but i cannot", "i'm sorry, i can't", "i'm sorry, but as an ai",
    "sorry, but i can't assist", "i can't assist with", "i cannot assist with",
    "i'm unable to assist", "i cannot fulfill", "i can't fulfill", "i'm not able to help with",
    "als ki-sprachmodell", "als ki-modell", "als künstliche intelligenz kann ich",
    "als sprachmodell kann ich", "es tut mir leid, aber ich kann nicht",
    "dabei kann ich nicht helfen",
    "como modelo de lenguaje", "como una inteligencia artificial",
    "como inteligencia artificial, no", "lo siento, pero no puedo", "no puedo ayudarte con eso",
    "en tant que modèle de langage", "en tant qu'ia", "en tant qu'intelligence artificielle",
    "je suis désolé, mais je ne peux pas",
    "como um modelo de linguagem", "como modelo de linguagem", "desculpe, mas não posso",
    "come modello linguistico", "come modello di linguaggio", "mi dispiace, ma non posso",
    "как языковая модель", "как языковой модели", "как искусственный интеллект, я",
    "извините, но я не могу", "к сожалению, я не могу помочь",
    "كنموذج لغوي", "بصفتي نموذج", "باعتباري نموذج", "عذرًا، لا يمكنني", "عذرا، لا يمكنني",
    "آسف، لكن لا أستطيع",
    "저는 ai 언어 모델", "ai 언어 모델로서", "인공지능 언어 모델로서", "언어 모델로서", "인공지능으로서",
    "죄송하지만 도와드릴 수 없", "죄송하지만, 그 요청은",
    "aiの言語モデルとして", "ai言語モデルとして", "言語モデルとして", "大規模言語モデルである私",
    "申し訳ありませんが、お手伝いできません", "申し訳ございませんが、お答えできません",
    "作为一个ai", "作为ai语言模型", "作为一个人工智能", "作为人工智能语言模型", "作为一名ai", "作为一个语言模型",
    "抱歉,我无法", "抱歉，我无法", "很抱歉，但我不能", "对不起，我不能", "我无法提供这方面的帮助",
    "作為一個ai", "作為一個人工智慧", "作為一個語言模型", "抱歉，我無法",
)  # fmt: skip

# Questions that ask for more than a word: to explain, describe, compare, write.
OPEN_QUESTION = re.compile(
    r"\b(?:explain|describe|why|how (?:do|does|did|can|could|should|would|is|are|to)|compare"
    r"|discuss|summari[sz]e|write an? (?:essay|story|article|letter|poem|paragraph|report)"
    r"|elaborate|erkläre?n?|erläutere?n?|beschreibe?n?|warum|weshalb|wieso|vergleiche?n?"
    r"|explica|explique|describe|por qué|compara|pourquoi|décris|décrivez|perché|spiega|descrivi"
    r"|porque|descreva|объясни(?:те)?|опиши(?:те)?|почему|сравни(?:те)?|расскажи(?:те)?)\b"
    r"|اشرح|لماذا|صف |قارن|설명|왜|어떻게|비교|서술|説明|なぜ|どうして|述べ|比較|解释|解釋|为什么|為什麼"
    r"|描述|说明|比较"
)

# Questions that ask for another language, or name one: their answers may be in any.
NAMES_LANGUAGE = re.compile(
    r"translat|in (?:english|german|french|spanish|korean|japanese|chinese|arabic|russian|italian"
    r"|portuguese|latin|hindi)|übersetz|auf (?:deutsch|englisch|französisch|spanisch|koreanisch)"
    r"|traduc|tradu[iz]|inglés|español|alemán|francés|anglais|français|allemand|espagnol"
    r"|перевед|перевод|по-английски|по-русски|на английск|на русск|ترجم|بالإنجليزية|بالعربية"
    r"|번역|영어로|한국어로|일본어로|중국어로|영작|翻訳|訳して|英語で|日本語で|韓国語で|翻译|翻譯|英文|英语|中文"
    r"|日语|韩语|\benglish\b|\bgerman\b|\bfrench\b|\bspanish\b|\bkorean\b"
    r"|\bjapanese\b|\bchinese\b|\barabic\b|\brussian\b|grammar|proofread|paraphras"
    r"|\bdeutsch\b|\benglisch\b"
)


def fold(text: str) -> str:
    """As the phrases are written: lower case, straight apostrophes, single blanks."""
    return " ".join(text.lower().replace("\u2019", "'").split())
