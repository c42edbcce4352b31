"""The page in a browser: headless Chromium, where there is one."""

import contextlib
import shutil
import threading

import numpy as np
import pytest

import deepcomp_tf as dc
from deepcomp_tf import samples
from deepcomp_tf.codec.images import encode_png

for package in ("fastapi", "lancedb", "prometheus_client", "uvicorn"):
  pytest.importorskip(package, reason="the extra serve is not installed")
webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")

from selenium.webdriver.common.by import By  # pylint: disable=wrong-import-position
from selenium.webdriver.common.keys import Keys  # pylint: disable=wrong-import-position
from selenium.webdriver.support.ui import WebDriverWait  # pylint: disable=wrong-import-position
import uvicorn  # pylint: disable=wrong-import-position
from deepcomp_tf.serve import app as apps  # pylint: disable=wrong-import-position
from deepcomp_tf.serve import running  # pylint: disable=wrong-import-position
from deepcomp_tf.serve import service as services  # pylint: disable=wrong-import-position

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="there is no chromium with a chromedriver")]
TOKEN = "a token"


@pytest.fixture(name="folder", scope="module")
def fixture_folder(tmp_path_factory):
  """Photos, a broken file, and where the browser puts downloads."""
  folder = tmp_path_factory.mktemp("page")
  for name, sample in (("cat.png", "chelsea"), ("cup.png", "coffee")):
    (folder / name).write_bytes(encode_png(samples.photos(224)[sample]))
  (folder / "broken.deepcomp").write_bytes(b"no bitstream")
  (folder / "downloads").mkdir()
  return folder


@pytest.fixture(name="service", scope="module")
def fixture_service(folder):
  """Of an empty library."""
  return services.Service(dc.Library(folder / "library"), "bpp0.330")


@pytest.fixture(name="browser", scope="module")
def fixture_browser(service, folder):
  """A browser at its page, which knows the token."""
  app = apps.make_app(service, TOKEN, show_samples=True)
  bound = running.listen("127.0.0.1", 0)
  server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
  server.capture_signals = contextlib.nullcontext
  thread = threading.Thread(target=server.run, args=[[bound]])
  thread.start()
  options = webdriver.ChromeOptions()
  options.binary_location = CHROMIUM
  for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1300,1000",
                   "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"):  # nothing from elsewhere
    options.add_argument(argument)
  options.add_experimental_option("prefs", {"download.default_directory": str(folder / "downloads")})
  options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
  browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
  browser.set_script_timeout(120)
  try:
    browser.get(f"http://127.0.0.1:{bound.getsockname()[1]}/")
    browser.find_element(By.ID, "token").send_keys(TOKEN, Keys.ENTER)
    yield browser
  finally:
    browser.quit()
    server.should_exit = True
    thread.join()


def _wait(browser, condition):
  return WebDriverWait(browser, 240, 0.2).until(lambda _: condition())


def _upload(browser, *paths):
  browser.find_element(By.ID, "file").send_keys("\n".join(map(str, paths)))


def _status(browser, text):
  _wait(browser, lambda: browser.find_element(By.ID, "status").text == text)


def _names(browser):
  return [card.text for card in browser.find_elements(By.CSS_SELECTOR, "#photos h2")]


def _search(browser, text):
  field = browser.find_element(By.ID, "text")
  field.clear()
  field.send_keys(text, Keys.ENTER)


def _press(card, text):
  card.find_element(By.XPATH, f".//button[text()='{text}']").send_keys(Keys.ENTER)


def _looks(browser, count):
  _wait(browser, lambda: len(browser.find_elements(By.CSS_SELECTOR, "#looks article[data-point]")) == count)
  return browser.find_elements(By.CSS_SELECTOR, "#looks article[data-point]")


def test_photos_become_searchable(browser, folder):
  _status(browser, "latest: no photos")
  _upload(browser, folder / "cat.png", folder / "cup.png")
  _status(browser, "2 of 2 searchable")
  assert sorted(_names(browser)) == ["cat.png", "cup.png"]
  data = dc.Library(folder / "library")["cat.png"].data
  card, = [card for card in browser.find_elements(By.CSS_SELECTOR, "#photos article") if "cat.png" in card.text]
  assert f"{len(data):,} bytes; the file that came has {(folder / 'cat.png').stat().st_size:,} bytes" in card.text
  assert dc.Classifier.load_for(data).classify(data)[0][0] in card.text
  _search(browser, "cats")
  _status(browser, "cats: 1 photo")
  assert _names(browser) == ["cat.png"] and "score" in browser.find_element(By.ID, "photos").text
  _wait(browser, lambda: browser.execute_script("return document.querySelector('#photos img').naturalWidth") == 224)
  _search(browser, "cart")
  _wait(browser, lambda: browser.find_element(By.ID, "status").get_attribute("class") == "error" or "cart: " in
        browser.find_element(By.ID, "status").text)
  browser.find_element(By.ID, "latest").send_keys(Keys.ENTER)
  _status(browser, "latest: 2 photos")
  card, = [card for card in browser.find_elements(By.CSS_SELECTOR, "#photos article") if "cup.png" in card.text]
  _press(card, "like this")
  _status(browser, "like cup.png: 2 photos")
  assert _names(browser) == ["cup.png", "cat.png"]


def test_a_closer_look_its_slider_its_file_and_the_file_again(browser, service, folder):
  card, = [card for card in browser.find_elements(By.CSS_SELECTOR, "#photos article") if "cat.png" in card.text]
  _press(card, "closer look")
  looks = _looks(browser, 3)
  assert [look.get_attribute("data-point") for look in looks] == dc.operating_points.names()
  data = dc.Codec.load("bpp0.330").compress(samples.photos(224)["chelsea"])
  assert f"{len(data):,} bytes" in looks[1].text and "no picture was decoded for this" in looks[1].text
  assert "the same networks on its pixels" not in looks[1].text  # they are made when nobody looks
  # The networks are described once, and the mask's colours have a legend.
  assert dc.Classifier.load("graft_bpp0.635").describe() in browser.find_element(By.ID, "look").get_attribute("textContent")
  assert "knows" not in looks[1].text
  swatch = looks[1].find_element(By.XPATH, ".//ul[@class='legend']/li[starts-with(., 'cat ')]/span")
  assert "64, 0, 0" in swatch.value_of_css_property("background-color")
  # The slider, by keyboard; what is beside our picture, by a button.
  pair, slider = looks[1].find_element(By.CLASS_NAME, "pair"), looks[1].find_element(By.CSS_SELECTOR, "input[type=range]")
  slider.send_keys(Keys.ARROW_LEFT * 10)
  assert browser.execute_script("return arguments[0].style.getPropertyValue('--at')", pair) == "40%"
  upper = pair.find_element(By.CLASS_NAME, "upper")
  before = upper.get_attribute("src")
  _press(looks[1], "WebP")
  assert upper.get_attribute("src") != before and "right WebP" in looks[1].text
  looks[1].find_element(By.LINK_TEXT, "download the file").click()
  downloaded = folder / "downloads/cat-bpp0.330.deepcomp"
  _wait(browser, downloaded.exists)
  assert downloaded.read_bytes() == data
  _press(browser.find_element(By.ID, "look"), "close")
  assert not browser.find_elements(By.CSS_SELECTOR, "#looks article")
  _upload(browser, downloaded)
  _status(browser, "1 of 1 searchable")
  service.looking.compare()
  _press(browser.find_element(By.CSS_SELECTOR, "#photos article"), "closer look")
  look, = _looks(browser, 1)
  assert "the same networks on its pixels" in look.text
  assert f"{len(data):,} bytes" in look.text and not look.find_elements(By.CSS_SELECTOR, "input[type=range]")


def test_what_is_wrong_is_said(browser, folder):
  count = len(dc.Library(folder / "library"))
  _upload(browser, folder / "broken.deepcomp")
  status = browser.find_element(By.ID, "status")
  _wait(browser, lambda: status.get_attribute("class") == "error")
  assert status.text.startswith("broken.deepcomp: expected a photo") and len(dc.Library(folder / "library")) == count
  _search(browser, "rockte")
  _wait(browser, lambda: "Received: 'rockte'; the nearest are" in status.text)


def test_a_sample_on_a_phone_in_the_dark(browser):
  browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 1,
                                                                 "mobile": True})
  browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]})
  browser.find_element(By.XPATH, "//button[text()='rocket']").send_keys(Keys.ENTER)
  looks = _looks(browser, 3)
  assert browser.execute_script("return document.documentElement.scrollWidth <= 390")
  assert all(look.size["width"] > 350 for look in looks) and len({look.location["y"] for look in looks}) == 1  # one at a time
  background = browser.execute_script("return getComputedStyle(document.documentElement).backgroundColor")
  text = browser.execute_script("return getComputedStyle(document.body).color")
  brightness = lambda color: np.mean([float(part) for part in color.split("(")[1].rstrip(")").split(",")[:3]])
  assert brightness(text) > 200 and (brightness(background) < 60 or background == "rgba(0, 0, 0, 0)")
  # Nothing was asked for elsewhere, and nothing went wrong unseen, but for the answers to what was wrong.
  wrong = ("/photos?name=broken.deepcomp", "/search?top=60&text=")
  assert [line for line in browser.get_log("browser") if not any(place in line["message"] for place in wrong)] == []
