"""Chinese characters that are written for one another: same sound, or a similar shape.

A small table of everyday errors. None of its characters negates, counts, measures, or names a colour or a
size, so that an error never changes what is said of an item.
"""

from __future__ import annotations


def _groups(text: str) -> dict[str, str]:
    table: dict[str, str] = {}
    for group in text.split():
        for char in group:
            table[char] = table.get(char, "") + "".join(other for other in group if other != char)
    return table


HOMOPHONES = _groups(
    "的得地 在再载 做作坐座 他她它 那哪 象像向 以已 带戴代 长常尝 近进 园原源 清轻 账帐 型形 订定 须需 "
    "洁结 适式试饰 质制 材才财 用佣 衣依医 服福扶 鞋协 帽冒貌 裙群 裤库 机积 保宝 暖软 柔揉 舒书 护互 "
    "肤夫 香乡 味位 甜田 茶查 酒久 糖堂 果裹 鱼于 油由 洗喜 刷耍 厨橱 房防 餐参 具据 玩完 童同 "
    "学雪 生声 笔比 本苯 灯登 桌捉 椅以 床创 被背 枕诊 壶湖 锅郭 叉插 电店 线现 充冲 壳咳 "
    "屏凭 音因 耳尔 便变 运韵 动洞 休修 闲贤 旅履 行形 透头 气汽 "
    "时实 尚上 潮朝 流留 经京 典点 简减 约乐 美每 丽力 优忧 品聘 新心 款宽 热惹 卖迈 送宋 礼理 物务"
)
"""Characters of the same or nearly the same sound, each with those written for it."""

LOOK_ALIKES = _groups(
    "己已 土士 日曰 人入 今令 牛午 问间 鸟乌 候侯 拔拨 晴睛 师帅 贝见 木术 特持 便使 喝渴 "
    "玩坑 怀杯 环坏 玻坡 狠狼 历厉 幕墓 暮慕 塑朔 辩辨 瓣辨 检捡 抢枪 拎拾 泡炮 炉驴 烧浇 挠绕 挂桂 "
    "桃挑 栏拦 析折 柚抽 柠拧 档挡 梯涕 棉绵 椎推 漂飘 漆膝 摸模 蜜密 裸课 褥辱 载栽 遮庶 锻缎 锅祸 钩钓 "
    "钻站 销锁 镜境 鞋鞍 韧纫 顶项 须顺 饮饭 饼拼 鲜解 麻床 体休 侧测 促捉 偏遍 倍陪 垫势 堡煲 套奎 娃蛙 "
    "孩该 岩若 崭暂 巾币 复夏 恒桓 愉愈 房肩 扇扁 扣和 把吧 拉垃 拍柏"
)
"""Characters of a similar shape, each with those mistaken for it."""
