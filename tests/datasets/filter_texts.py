# SPDX-License-Identifier: Apache-2.0
"""Good texts in many languages, which no filter may touch by default, and none that is asked for
their language may drop."""

ENGLISH = """\
The harbour was quiet in the early morning, and the fishermen were mending their nets. "We will
not
go out today," said the oldest of them, "the wind has turned, and the glass is falling." He had
been
at sea for fifty-three years, and nobody on the quay would have thought of doubting him.

By noon the first gusts came over the breakwater. Boats pulled at their lines, and the water in
the
basin, which had been grey, turned almost black. The children were called home, shutters were
closed,
and the keeper of the light climbed his two hundred steps with a lamp and a thermos of tea.
"""
GERMAN = """\
Der Hafen lag am frühen Morgen still, und die Fischer flickten ihre Netze. „Heute fahren wir nicht
hinaus“, sagte der Älteste von ihnen, „der Wind hat gedreht, und das Barometer fällt.“ Er war seit
dreiundfünfzig Jahren zur See gefahren, und niemand am Kai wäre auf den Gedanken gekommen, an
seinem
Wort zu zweifeln.

Gegen Mittag fegten die ersten Böen über den Wellenbrecher. Die Boote zerrten an den Leinen,
und das
Wasser im Hafenbecken, das eben noch grau gewesen war, wurde beinahe schwarz. Straße um Straße
schlossen sich die Fensterläden, und der Leuchtturmwärter stieg mit einer Lampe hinauf.
"""
SPANISH = """\
El puerto estaba tranquilo a primera hora de la mañana, y los pescadores remendaban sus redes.
«Hoy
no saldremos», dijo el más viejo, «el viento ha cambiado y el barómetro está bajando». Llevaba
cincuenta y tres años en el mar, y a nadie en el muelle se le habría ocurrido dudar de él.

¿Quién habría imaginado lo que vino después? Hacia el mediodía llegaron las primeras rachas por
encima
del rompeolas. Las barcas tiraban de las amarras y el agua de la dársena se volvió casi negra.
¡Qué
prisa tuvieron entonces las madres por llamar a los niños! El farero subió con una lámpara.
"""
RUSSIAN = """\
Ранним утром в гавани было тихо, и рыбаки чинили свои сети. «Сегодня мы не выйдем, — сказал самый
старый из них, — ветер переменился, и барометр падает». Он ходил в море пятьдесят три года, и
никому
на причале не пришло бы в голову усомниться в его словах.

К полудню над волнорезом пронеслись первые порывы ветра. Лодки дёргали канаты, и вода в бухте,
которая только что была серой, стала почти чёрной. Детей позвали домой, закрыли ставни, а
смотритель
маяка поднялся по двумстам ступеням с лампой и термосом чая, чтобы ждать там до самого рассвета.
"""
ARABIC = """\
كان الميناء هادئًا في الصباح الباكر، وكان الصيادون يصلحون شباكهم. قال أكبرهم سنًا: «لن نخرج
اليوم، فقد
تغير اتجاه الريح، والضغط ينخفض». كان قد أمضى ثلاثة وخمسين عامًا في البحر، ولم يكن أحد على
الرصيف ليشك
في كلامه أبدًا.

وعند الظهر هبت أولى العواصف فوق حاجز الأمواج. شدت القوارب حبالها، وصار الماء في الحوض، الذي كان
رماديًا
قبل قليل، أسود تقريبًا. نادت الأمهات أطفالهن إلى البيوت، وأغلقت النوافذ، وصعد حارس المنارة درجاته
المئتين ومعه مصباح وإبريق من الشاي. هل كان أحد يعرف ما الذي سيأتي به الليل؟
"""
KOREAN = """\
이른 아침의 항구는 조용했고, 어부들은 그물을 손질하고 있었다. 가장 나이 많은 어부가 말했다. "오늘은 바다에 나가지
않겠네. 바람이 바뀌었고 기압도 떨어지고 있어." 그는 쉰세 해 동안 바다에서 일해 왔고, 부두에 있던 누구도 그의 말을
의심할 생각을 하지 않았다.

정오 무렵 방파제 너머로 첫 돌풍이 불어왔다. 배들은 밧줄을 잡아당겼고, 조금 전까지 잿빛이던 물은 거의 검은빛으로
변했다. 어머니들은 아이들을 집으로 불러들였고, 집집마다 덧문을 닫았다. 등대지기는 등불과 따뜻한 차를 들고 이백 개의
계단을 올라갔다. 그날 밤 무슨 일이 일어날지 아는 사람은 아무도 없었다. 그래도 그는 새벽까지 불을 지켰다.
"""
CHINESE = """\
清晨的港口十分安静，渔民们正在修补渔网。其中年纪最大的那位说：“今天我们不出海了，风向变了，气压也在下降。”他在海上
度过了五十三年，码头上没有人会怀疑他的话。

中午时分，第一阵狂风越过了防波堤。船只拉扯着缆绳，港池里的水刚才还是灰色的，现在几乎变成了黑色。母亲们把孩子叫回家，
家家户户关上了窗板。看守灯塔的人提着灯，带着一壶热茶，爬上了两百级台阶。谁也不知道夜里会发生什么，但他一直守着灯光，
直到天亮。第二天早晨，风停了，海面又恢复了平静，人们走到岸边，清点损失，然后重新开始工作。
"""
JAPANESE = """\
早朝の港は静かで、漁師たちは網を繕っていた。いちばん年上の漁師が言った。「今日は海に出ないぞ。風向きが変わったし、
気圧も下がっている。」彼は五十三年も海で働いてきたので、岸壁にいた誰も彼の言葉を疑おうとはしなかった。

昼ごろ、最初の突風が防波堤を越えて吹いてきた。船はロープを引っ張り、さっきまで灰色だった水はほとんど黒くなった。母親
たちは子どもを家に呼び戻し、家々の雨戸が閉められた。灯台守はランプと温かいお茶を持って、二百段の階段を登っていった。
その夜に何が起こるのか、知っている人は誰もいなかった。それでも彼は夜明けまで明かりを守り続けた。
"""
THAI = """\
ท่าเรือในตอนเช้าตรู่เงียบสงบ และชาวประมงกำลังซ่อมแหของพวกเขา คนที่แก่ที่สุดพูดว่า
วันนี้เราจะไม่ออกทะเล
เพราะลมเปลี่ยนทิศและความกดอากาศกำลังลดลง เขาทำงานอยู่ในทะเลมาห้าสิบสามปีแล้ว
ไม่มีใครบนท่าเรือคิดจะสงสัยคำพูดของเขา

ตอนเที่ยงลมกระโชกแรกพัดข้ามเขื่อนกันคลื่น เรือดึงเชือกจนตึง น้ำที่เคยเป็นสีเทากลายเป็นเกือบดำ
แม่ ๆ เรียกลูกกลับบ้านและปิดหน้าต่าง คนเฝ้าประภาคารถือโคมไฟกับชาร้อนเดินขึ้นบันไดสองร้อยขั้น
"""
HINDI = """\
सुबह-सुबह बंदरगाह शांत था, और मछुआरे अपने जाल ठीक कर रहे थे। उनमें से सबसे बूढ़े ने कहा, "आज हम
समुद्र में नहीं
जाएँगे, हवा बदल गई है और दबाव गिर रहा है।" वह तिरपन साल से समुद्र में काम कर रहा था, और घाट पर
किसी ने उसकी
बात पर शक करने की नहीं सोची।

दोपहर तक पहली आँधी बाँध के ऊपर से आई। नावें अपनी रस्सियाँ खींचने लगीं, और पानी, जो अभी तक धूसर
था, लगभग काला
हो गया। माताओं ने बच्चों को घर बुलाया, खिड़कियाँ बंद की गईं, और प्रकाशस्तंभ का रखवाला दीपक और
चाय लेकर ऊपर चढ़ गया।
"""
CODE = '''\
#!/usr/bin/env python3
"""Reads addresses such as <a href="x">&amp;</a> and keeps Ã¼ as it stands in a test of
encodings."""
import re

PAIRS = {"Ã¼": "ü", "Ã¶": "ö", "â‚¬": "€"}


def repair(text):
    for wrong, right in PAIRS.items():
        text = text.replace(wrong, right)
    return re.sub(r"<br ?/?>|&nbsp;", " ", text)


class Reader:
    def __init__(self, path):
        self.path = path
        self.lines = []

    def read(self):
        with open(self.path) as file:
            self.lines = [repair(line) for line in file]
        return self.lines
'''


def unwrap(text: str, glue: str = " ") -> str:
    """One line a paragraph, as pages of the web have."""
    return "\n\n".join(glue.join(part.split("\n")) for part in text.strip().split("\n\n"))


LANGUAGES = {
    "en": unwrap(ENGLISH),
    "de": unwrap(GERMAN),
    "es": unwrap(SPANISH),
    "ru": unwrap(RUSSIAN),
    "ar": unwrap(ARABIC),
    "ko": unwrap(KOREAN),
    "zh": unwrap(CHINESE, ""),
    "ja": unwrap(JAPANESE, ""),
    "th": unwrap(THAI),
    "hi": unwrap(HINDI),
}
GOOD = LANGUAGES | {"code": CODE}
