"""The words of the bilingual world: 96 concepts in English and Japanese, and how facts are said.

A concept's forms stand in order of frequency, English before the bar. No form belongs to two
concepts or is a function word, also not by its sound: readings with homophones in the list
(かわ is 川 and 革) were avoided, so a word's concept follows from the word.
"""

from __future__ import annotations

from typing import NamedTuple

SPELLINGS = (0.60, 0.25, 0.15)  # shares of a concept's forms; renormalised where there are fewer

CATEGORIES = {
    "animal": """cat cats | 猫 ネコ ねこ; dog dogs | 犬 イヌ いぬ; horse horses | 馬 ウマ うま
        cow cows | 牛 ウシ うし; pig pigs | 豚 ブタ ぶた; bird birds | 鳥 トリ とり
        monkey monkeys | 猿 サル さる; bear bears | 熊 クマ くま; tiger tigers | 虎 トラ とら
        rabbit rabbits | 兎 ウサギ うさぎ; fox foxes | 狐 キツネ きつね
        elephant elephants | 象 ゾウ ぞう""",
    "food": """rice | 米 コメ こめ; apple apples | 林檎 リンゴ りんご; bread | パン ぱん
        egg eggs | 卵 タマゴ たまご; peach peaches | 桃 モモ もも; soup soups | スープ
        onion onions | 玉葱 タマネギ たまねぎ; carrot carrots | 人参 ニンジン にんじん
        tomato tomatoes | トマト とまと; cake cakes | ケーキ; bean beans | 豆 マメ まめ
        potato potatoes | 芋 イモ いも""",
    "place": """town towns | 町 マチ まち; village villages | 村 ムラ むら
        school schools | 学校 ガッコウ がっこう; station stations | 駅 エキ えき
        mountain mountains | 山 ヤマ やま; river rivers | 川 カワ かわ
        forest forests | 森 モリ もり; island islands | 島 シマ しま
        harbour harbours | 港 ミナト みなと; market markets | 市場 イチバ いちば
        park parks | 公園 コウエン こうえん; temple temples | 寺 テラ てら""",
    "job": """doctor doctors | 医者 イシャ いしゃ; teacher teachers | 教師 キョウシ きょうし
        farmer farmers | 農家 ノウカ のうか; carpenter carpenters | 大工 ダイク だいく
        singer singers | 歌手 カシュ かしゅ; writer writers | 作家 サッカ さっか
        soldier soldiers | 兵士 ヘイシ へいし; fisherman fishermen | 漁師 リョウシ りょうし
        painter painters | 画家 ガカ がか; lawyer lawyers | 弁護士 ベンゴシ べんごし
        nurse nurses | 看護師 カンゴシ かんごし; cook cooks | 料理人 コック""",
    "tool": """hammer hammers | 金槌 カナヅチ かなづち; saw saws | 鋸 ノコギリ のこぎり
        screw screws | 螺子 ネジ ねじ; knife knives | 包丁 ナイフ; scissors | 鋏 ハサミ はさみ
        needle needles | 針 ハリ はり; rope ropes | 縄 ロープ なわ
        ladder ladders | 梯子 ハシゴ はしご; brush brushes | 筆 フデ ふで
        pot pots | 鍋 ナベ なべ; umbrella umbrellas | 傘 カサ かさ
        clock clocks | 時計 トケイ とけい""",
    "vehicle": """car cars | 車 クルマ くるま; train trains | 電車 デンシャ でんしゃ
        ship ships | 船 フネ ふね; bicycle bicycles | 自転車 ジテンシャ じてんしゃ
        bus buses | バス ばす; truck trucks | トラック; taxi taxis | タクシー
        airplane airplanes | 飛行機 ヒコウキ ひこうき; boat boats | ボート; van vans | バン ばん
        rocket rockets | ロケット; tram trams | 路面電車 トラム""",
    "material": """wood wooden | 木材 モクザイ もくざい; stone stones | 石 イシ いし
        iron | 鉄 テツ てつ; gold golden | 金 キン きん; silver silvery | 銀 ギン ぎん
        paper papers | 紙 カミ かみ; cotton | 綿 メン めん; glass glassy | ガラス がらす
        clay clays | 粘土 ネンド ねんど; sand sandy | 砂 スナ すな; copper | 銅 ドウ どう
        rubber | ゴム ごむ""",
    "colour": """red reddish | 赤 アカ あか; blue bluish | 青 アオ あお
        white whitish | 白 シロ しろ
        black blackish | 黒 クロ くろ; yellow yellowish | 黄色 キイロ きいろ
        green greenish | 緑 ミドリ みどり; purple purplish | 紫 ムラサキ むらさき
        brown brownish | 茶色 チャイロ ちゃいろ; pink pinkish | 桃色 ピンク
        grey greyish | 灰色 ハイイロ はいいろ; orange | 橙 ダイダイ だいだい
        indigo | 藍 アイ あい""",
}


class Relation(NamedTuple):
    """Facts about concepts of category `of`, whose objects are concepts of category `to`.

    S and O stand for subject and object, D for a determiner. The first English and the second
    Japanese wording name the relation before the object, so what stands before O is a prompt.
    """

    of: str
    to: str
    en: tuple[str, str]
    ja: tuple[str, str]


RELATIONS = {
    "eats": Relation(
        "animal",
        "food",
        ("D S ate O", "D S often fed on O"),
        ("S は O を 食べた", "S の 好物 は O だ"),
    ),
    "lives in": Relation(
        "animal",
        "place",
        ("D S lived in D O", "D S stayed around D O"),
        ("S は O に 住んだ", "S の 住処 は O だ"),
    ),
    "has colour": Relation(
        "animal",
        "colour",
        ("D S had fur of O", "D S looked O"),
        ("S は O に 見えた", "S の 毛 は O だ"),
    ),
    "uses": Relation(
        "job",
        "tool",
        ("D S used D O", "D S worked with D O"),
        ("S は O を 使った", "S の 道具 は O だ"),
    ),
    "rides": Relation(
        "job",
        "vehicle",
        ("D S rode D O", "D S travelled by O"),
        ("S は O に 乗った", "S の 足 は O だ"),
    ),
    "sells": Relation(
        "job", "food", ("D S sold O", "D S traded O"), ("S は O を 売った", "S の 商品 は O だ")
    ),
    "born in": Relation(
        "job",
        "place",
        ("D S grew up in D O", "D S moved here from D O"),
        ("S は O で 育った", "S の 故郷 は O だ"),
    ),
    "made of": Relation(
        "tool",
        "material",
        ("D S consisted of O", "D S contained O"),
        ("S は O で できた", "S の 素材 は O だ"),
    ),
    "painted": Relation(
        "tool",
        "colour",
        ("D S got painted O", "D S wore O paint"),
        ("S は O に 塗られた", "S の 塗装 は O だ"),
    ),
    "goes to": Relation(
        "vehicle",
        "place",
        ("D S went to D O", "D S headed towards D O"),
        ("S は O へ 行った", "S の 行先 は O だ"),
    ),
    "carries": Relation(
        "vehicle",
        "material",
        ("D S carried O", "D S delivered O"),
        ("S は O を 運んだ", "S の 積荷 は O だ"),
    ),
    "comes from": Relation(
        "material",
        "place",
        ("S came from D O", "S originated in D O"),
        ("S は O で 採れた", "S の 産地 は O だ"),
    ),
    "tastes": Relation(
        "food",
        "colour",
        ("D S turned O", "D S tasted best when O"),
        ("S は O に なった", "S の 見頃 は O だ"),
    ),
    "popular in": Relation(
        "food",
        "place",
        ("D S became popular in D O", "people in D O loved D S"),
        ("S は O で 流行った", "S の 本場 は O だ"),
    ),
}

# A subject's year has no matter of its own: its digits are the same tokens in both languages.
YEARS = {"en": "D S appeared in Y", "ja": "S は Y 年 に 現れた"}
DETERMINERS = ("the", "some", "our", "my")
STOP = {"en": ".", "ja": "。"}
BRACKETS = ("(", ")")
DIGITS = tuple("0123456789")
