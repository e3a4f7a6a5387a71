"""The words of the made-up shop: types of product, themes that bring them together, styles, brands."""

from __future__ import annotations

from typing import NamedTuple

Pair = tuple[str, str]
"""English, Chinese."""


class Kind(NamedTuple):
    """A type of product."""

    name: Pair
    department: int
    price: float
    peak: int
    """Month of highest demand, 0 for none."""
    consumable: bool
    materials: tuple[Pair, Pair, Pair]
    sizes: tuple[Pair, Pair, Pair]


DEPARTMENTS: tuple[Pair, ...] = (
    ("Outdoor", "户外"), ("Kitchen", "厨房"), ("Home", "家居"), ("Baby", "母婴"),
    ("Pets", "宠物"), ("Beauty", "美妆"), ("Office", "办公"), ("Sport", "运动"),
)  # fmt: skip

_FABRIC = (("cotton", "纯棉"), ("merino", "美利奴羊毛"), ("fleece", "抓绒"))
_SHELL = (("ripstop nylon", "防撕裂尼龙"), ("polyester", "涤纶"), ("canvas", "帆布"))
_HARD = (("steel", "不锈钢"), ("aluminium", "铝合金"), ("bamboo", "竹制"))
_CERAMIC = (("ceramic", "陶瓷"), ("glass", "玻璃"), ("enamel", "珐琅"))
_PAPER = (("kraft paper", "牛皮纸"), ("recycled paper", "再生纸"), ("linen paper", "亚麻纸"))
_SOFT = (("rubber", "橡胶"), ("silicone", "硅胶"), ("cork", "软木"))
_PLANT = (("aloe", "芦荟"), ("oat", "燕麦"), ("lavender", "薰衣草"))
_TASTE = (("dark roast", "深烘"), ("single origin", "单一产地"), ("organic", "有机"))
_MEAT = (("chicken", "鸡肉"), ("salmon", "三文鱼"), ("grain-free", "无谷"))
_ONE = (("small", "小号"), ("medium", "中号"), ("large", "大号"))
_PACK = (("2-pack", "2件装"), ("3-pack", "3件装"), ("6-pack", "6件装"))
_WEIGHT = (("250 g", "250克"), ("500 g", "500克"), ("1 kg", "1千克"))
_VOLUME = (("100 ml", "100毫升"), ("250 ml", "250毫升"), ("500 ml", "500毫升"))
_LENGTH = (("60 cm", "60厘米"), ("90 cm", "90厘米"), ("120 cm", "120厘米"))
_PERSONS = (("1-person", "单人"), ("2-person", "双人"), ("4-person", "四人"))
_LITRES = (("20 l", "20升"), ("35 l", "35升"), ("50 l", "50升"))
_BLADE = (("15 cm", "15厘米"), ("18 cm", "18厘米"), ("20 cm", "20厘米"))
_PAN = (("20 cm", "20厘米"), ("24 cm", "24厘米"), ("28 cm", "28厘米"))
_METRES = (("2 m", "2米"), ("5 m", "5米"), ("10 m", "10米"))
_THICK = (("4 mm", "4毫米"), ("6 mm", "6毫米"), ("8 mm", "8毫米"))
_SHEET = (("A6", "A6"), ("A5", "A5"), ("A4", "A4"))
_EARTH = (("peat-free", "无泥炭"), ("organic", "有机"), ("coconut", "椰糠"))
_LITTER = (("tofu", "豆腐"), ("clay", "膨润土"), ("pine", "松木"))
_CLIMB = (("sisal", "剑麻"), ("pine", "松木"), ("plush", "绒布"))
_PROTEIN = (("whey", "乳清"), ("pea", "豌豆"), ("oat", "燕麦"))

KINDS: tuple[Kind, ...] = (
    Kind(("tent", "帐篷"), 0, 160, 6, False, _SHELL, _PERSONS),
    Kind(("sleeping bag", "睡袋"), 0, 85, 6, False, _SHELL, _ONE),
    Kind(("hiking socks", "徒步袜"), 0, 14, 9, True, _FABRIC, _PACK),
    Kind(("headlamp", "头灯"), 0, 32, 11, False, _HARD, _ONE),
    Kind(("camping stove", "露营炉"), 0, 55, 6, False, _HARD, _ONE),
    Kind(("backpack", "背包"), 0, 90, 5, False, _SHELL, _LITRES),
    Kind(("rain jacket", "雨衣"), 0, 75, 10, False, _SHELL, _ONE),
    Kind(("water bottle", "水壶"), 0, 22, 7, False, _HARD, _VOLUME),
    Kind(("coffee beans", "咖啡豆"), 1, 13, 0, True, _TASTE, _WEIGHT),
    Kind(("pour-over dripper", "手冲滤杯"), 1, 24, 0, False, _CERAMIC, _ONE),
    Kind(("espresso cups", "浓缩咖啡杯"), 1, 21, 12, False, _CERAMIC, _PACK),
    Kind(("milk jug", "拉花缸"), 1, 18, 0, False, _HARD, _VOLUME),
    Kind(("chef knife", "主厨刀"), 1, 65, 12, False, _HARD, _BLADE),
    Kind(("frying pan", "平底锅"), 1, 48, 0, False, _HARD, _PAN),
    Kind(("mixing bowl", "搅拌碗"), 1, 19, 11, False, _CERAMIC, _ONE),
    Kind(("baking tin", "烤盘"), 1, 16, 12, False, _HARD, _ONE),
    Kind(("cocoa powder", "可可粉"), 1, 9, 12, True, _TASTE, _WEIGHT),
    Kind(("throw blanket", "盖毯"), 2, 42, 11, False, _FABRIC, _LENGTH),
    Kind(("cushion cover", "抱枕套"), 2, 17, 0, False, _FABRIC, _PACK),
    Kind(("scented candle", "香薰蜡烛"), 2, 15, 12, True, _PLANT, _ONE),
    Kind(("string lights", "灯串"), 2, 19, 12, False, _SOFT, _METRES),
    Kind(("photo frame", "相框"), 2, 14, 12, False, _HARD, _ONE),
    Kind(("plant pot", "花盆"), 2, 18, 4, False, _CERAMIC, _ONE),
    Kind(("potting soil", "营养土"), 2, 8, 4, True, _EARTH, _WEIGHT),
    Kind(("watering can", "洒水壶"), 2, 23, 5, False, _HARD, _VOLUME),
    Kind(("garden gloves", "园艺手套"), 2, 12, 4, False, _FABRIC, _ONE),
    Kind(("nappies", "纸尿裤"), 3, 19, 0, True, _FABRIC, _PACK),
    Kind(("baby bodysuit", "婴儿连体衣"), 3, 12, 0, False, _FABRIC, _PACK),
    Kind(("baby bottle", "奶瓶"), 3, 11, 0, False, _CERAMIC, _VOLUME),
    Kind(("muslin cloth", "纱布巾"), 3, 13, 0, False, _FABRIC, _PACK),
    Kind(("play mat", "游戏垫"), 3, 45, 0, False, _SOFT, _LENGTH),
    Kind(("picture book", "绘本"), 3, 9, 12, False, _PAPER, _PACK),
    Kind(("dog leash", "牵引绳"), 4, 18, 0, False, _SHELL, _LENGTH),
    Kind(("dog food", "狗粮"), 4, 26, 0, True, _MEAT, _WEIGHT),
    Kind(("dog bed", "狗窝"), 4, 52, 11, False, _FABRIC, _ONE),
    Kind(("cat litter", "猫砂"), 4, 12, 0, True, _LITTER, _WEIGHT),
    Kind(("cat toy", "逗猫玩具"), 4, 7, 12, False, _FABRIC, _PACK),
    Kind(("cat tree", "猫爬架"), 4, 70, 0, False, _CLIMB, _LENGTH),
    Kind(("face cream", "面霜"), 5, 28, 1, True, _PLANT, _VOLUME),
    Kind(("shampoo", "洗发水"), 5, 11, 0, True, _PLANT, _VOLUME),
    Kind(("lip balm", "润唇膏"), 5, 6, 1, True, _PLANT, _PACK),
    Kind(("sunscreen", "防晒霜"), 5, 17, 7, True, _PLANT, _VOLUME),
    Kind(("hand soap", "洗手液"), 5, 8, 0, True, _PLANT, _VOLUME),
    Kind(("hair brush", "发梳"), 5, 14, 0, False, _HARD, _ONE),
    Kind(("notebook", "笔记本"), 6, 10, 9, True, _PAPER, _SHEET),
    Kind(("gel pens", "中性笔"), 6, 7, 9, True, _SOFT, _PACK),
    Kind(("desk lamp", "台灯"), 6, 38, 10, False, _HARD, _ONE),
    Kind(("laptop stand", "笔记本支架"), 6, 33, 0, False, _HARD, _ONE),
    Kind(("seat cushion", "坐垫"), 6, 27, 0, False, _FABRIC, _ONE),
    Kind(("mechanical keyboard", "机械键盘"), 6, 88, 11, False, _HARD, _ONE),
    Kind(("yoga mat", "瑜伽垫"), 7, 36, 1, False, _SOFT, _THICK),
    Kind(("resistance band", "弹力带"), 7, 13, 1, False, _SOFT, _PACK),
    Kind(("foam roller", "泡沫轴"), 7, 25, 0, False, _SOFT, _LENGTH),
    Kind(("protein powder", "蛋白粉"), 7, 30, 1, True, _PROTEIN, _WEIGHT),
    Kind(("running shoes", "跑鞋"), 7, 95, 4, False, _SHELL, _ONE),
    Kind(("running shirt", "跑步衫"), 7, 29, 5, False, _FABRIC, _ONE),
    Kind(("running belt", "跑步腰包"), 7, 19, 5, False, _SHELL, _ONE),
    Kind(("gift wrap", "礼品包装纸"), 2, 6, 12, True, _PAPER, _PACK),
    Kind(("greeting cards", "贺卡"), 6, 8, 12, True, _PAPER, _PACK),
)  # fmt: skip

THEMES: tuple[tuple[Pair, tuple[str, ...]], ...] = (
    (
        ("camping weekends", "周末露营"),
        ("tent", "sleeping bag", "headlamp", "camping stove", "water bottle", "hiking socks"),
    ),
    (
        ("long mountain walks", "登山徒步"),
        ("backpack", "rain jacket", "hiking socks", "water bottle", "headlamp", "sunscreen"),
    ),
    (
        ("slow coffee mornings", "慢享咖啡"),
        ("coffee beans", "pour-over dripper", "espresso cups", "milk jug", "cocoa powder", "scented candle"),
    ),
    (
        ("baking on Sundays", "周日烘焙"),
        ("mixing bowl", "baking tin", "cocoa powder", "frying pan", "chef knife", "coffee beans"),
    ),
    (
        ("quiet evenings at home", "居家夜晚"),
        ("throw blanket", "cushion cover", "scented candle", "string lights", "photo frame", "picture book"),
    ),
    (
        ("balcony gardens", "阳台园艺"),
        ("plant pot", "potting soil", "watering can", "garden gloves", "string lights", "hand soap"),
    ),
    (
        ("the first year with a baby", "宝宝第一年"),
        ("nappies", "baby bodysuit", "baby bottle", "muslin cloth", "play mat", "picture book"),
    ),
    (
        ("life with a dog", "与狗同行"),
        ("dog leash", "dog food", "dog bed", "rain jacket", "hand soap", "throw blanket"),
    ),
    (
        ("life with a cat", "养猫日常"),
        ("cat litter", "cat toy", "cat tree", "throw blanket", "hand soap", "plant pot"),
    ),
    (
        ("a calm skin routine", "日常护肤"),
        ("face cream", "shampoo", "lip balm", "sunscreen", "hand soap", "hair brush"),
    ),
    (
        ("working from a desk", "伏案工作"),
        ("notebook", "gel pens", "desk lamp", "laptop stand", "seat cushion", "mechanical keyboard"),
    ),
    (
        ("training at home", "居家健身"),
        ("yoga mat", "resistance band", "foam roller", "protein powder", "running shirt", "water bottle"),
    ),
    (
        ("running before work", "晨跑"),
        ("running shoes", "running shirt", "running belt", "protein powder", "hiking socks", "water bottle"),
    ),
    (
        ("presents and parties", "节日送礼"),
        ("gift wrap", "greeting cards", "scented candle", "string lights", "photo frame", "espresso cups"),
    ),
)

STYLES: tuple[Pair, ...] = (
    ("ultralight", "轻量"), ("classic", "经典"), ("colourful", "缤纷"), ("minimal", "极简"),
    ("professional", "专业"), ("recycled", "环保"), ("handmade", "手工"), ("retro", "复古"),
)  # fmt: skip
COLOURS: tuple[Pair, ...] = (
    ("grey", "灰色"), ("black", "黑色"), ("white", "白色"), ("navy", "藏青色"), ("forest green", "墨绿色"),
    ("mustard", "姜黄色"), ("terracotta", "陶土色"), ("sky blue", "天蓝色"),
    ("sand", "沙色"), ("berry", "莓红色"),
)  # fmt: skip

BRANDS_PER_DEPARTMENT = 6
BRANDS: tuple[tuple[str, ...], tuple[str, ...]] = (
    (
        "Northwind", "Fjellhus", "Tarn & Co", "Cairnway", "Loamfield", "Highbeck",
        "Copperleaf", "Maison Orne", "Ember Lane", "Saltmarsh", "Brindle", "Pennyroyal",
        "Hearthside", "Willow Row", "Lumen", "Oakham", "Still Room", "Garth",
        "Puddle", "Little Wren", "Tiptoe", "Bramble Bee", "Nestling", "Moon & Milk",
        "Barkley", "Whisker", "Pawprint", "Old Tom", "Fetchwell", "Tail End",
        "Verbena", "Clearwater", "Dew", "Fern & Fig", "Solace", "Marrow",
        "Inkwell", "Foolscap", "Draftsman", "Ledger", "Quill", "Plainwork",
        "Stride", "Kestrel", "Ironbark", "Tempo", "Balance", "Harrier",
    ),
    (
        "北风", "山野客", "云岭", "石径", "远途", "青峰",
        "铜叶", "炊烟", "味间", "盐田", "小灶", "拾味",
        "归舍", "柳巷", "微光", "橡屋", "静室", "半亩",
        "小水花", "鹪鹩", "踮脚", "蜂宝", "暖巢", "月牙",
        "汪汪屋", "胡须", "爪印", "老汤姆", "快跑", "尾巴",
        "马鞭草", "清泉", "晨露", "蕨与果", "安然", "素肌",
        "墨井", "素笺", "绘图员", "账房", "羽笔", "工间",
        "阔步", "红隼", "铁木", "节拍", "平衡", "飞鹞",
    ),
)  # fmt: skip
