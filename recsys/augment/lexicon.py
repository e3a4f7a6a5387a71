"""The closed word lists behind the protected spans, English and Chinese."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NEGATIONS = _words(
    "no not non without never none nor neither cannot cant except excludes excluding anti un zero"
)
"""English negations: they protect themselves and the two words they govern."""

COLOURS = _words(
    "red orange yellow green blue purple violet pink brown black white grey gray silver gold golden beige "
    "ivory cream navy teal turquoise aqua cyan magenta maroon burgundy crimson scarlet coral peach lavender "
    "lilac mint olive khaki tan taupe bronze copper nude charcoal indigo multicolor multicolour multicolored "
    "multicoloured clear transparent rose blonde brunette auburn"
)

SIZES = _words(
    "xxs xs xl xxl xxxl xxxxl small medium large mini petite oversized jumbo king queen twin full-size "
    "travel-size one-size plus-size x-large x-small"
)
LETTER_SIZES = frozenset({"S", "M", "L", "S/M", "M/L", "L/XL"})
"""Only as capitals: in lower case they are other things."""

UNITS = _words(
    "ml cl l ltr litre litres liter liters g gr gram grams kg kilo mg mcg oz ounce ounces fl lb lbs pound "
    "pounds gal gallon gallons qt quart pt pint mm cm m meter meters metre metres inch inches in. ft feet "
    "foot yard yards w watt watts v volt volts mah gb tb mb ghz mhz hz k px dpi ct count pc pcs piece "
    "pieces pk pack packs set sets pair pairs dozen doz box case bottle roll rolls sheet sheets spf "
    "% percent year years month months age ages half quarter third single double triple"
)

NUMBER_WORDS = _words(
    "one two three four five six seven eight nine ten eleven twelve twenty thirty fifty hundred thousand"
)

COMMON = _words(
    "the and for with from this that your you our are all its has have was will can may more most very new "
    "use used using who what when how into over under out off per each any one also only other about "
    "men man mens women woman womens boy boys girl girls kid kids child children baby adult adults unisex "
    "的 了 和 与 及 在 是 有 为 适合 使用 可以 男士 女士 男 女 儿童 成人"
)
"""Words that say nothing of an item, or whose look-alikes in a corpus are their opposites."""

_ZH_PATH = r"[^\s.。，,;；>＞]+(?:\s*[>＞]\s*[^\s.。，,;；>＞]+)+"
"""A category path, `家居 > 灯具`: whole or not at all."""
ZH_COLOUR = (
    r"(?<![\u4e00-\u9fff])(?![\u4e00-\u9fff]{0,3}[红橙黄绿青蓝紫黑白灰粉棕褐金银]色)"
    r"[\u4e00-\u9fff]{1,3}色(?![\u4e00-\u9fff])|"  # standing alone: no word list has every colour
    r"(?:陶土|姜黄|藏青|牛皮纸|香槟|象牙|奶油|焦糖|珊瑚|琥珀|薄荷|橄榄|原木|古铜|驼|杏|茶|栗|肤|肉)色|"
    r"[深浅亮暗纯天宝酒玫墨]?[红橙黄绿青蓝紫黑白灰粉棕褐金银](?:色)?|米色|咖啡色|透明|彩色|卡其色?"
)
ZH_NEGATION = r"(?:不|无|非|没有?|免|未|勿|别|禁|零|拒绝|去除?)[\u4e00-\u9fff]{1,3}"
ZH_QUANTITY = (
    _ZH_PATH + "|"  # first of all: what stands in a path is not looked for alone
    r"(?:\d+(?:\.\d+)?|[一二三四五六七八九十百千万两半双]+)\s*"
    r"(?:毫升|千克|公斤|厘米|毫米|英寸|平方米|加仑|小时|分钟|盎司|英尺|人份|[人份磅个只件套盒瓶包袋片支条双对升克斤两米寸码号岁月天年层枚张块组卷罐桶箱台部粒颗度倍折元瓦伏])"
)
ZH_SIZE = r"(?:超大|加大|特大|大|中|小|均|加小)(?:号|码)"
ZH_MODEL = r"[A-Za-z][A-Za-z\-]*\d[A-Za-z0-9\-/.]*|\d[\dA-Za-z.\-/%×*]*|X{0,3}L码?|X{1,3}S码?"
